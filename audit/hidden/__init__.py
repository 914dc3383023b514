"""Find faults in a posted epoch that its published file does not show, by demanding leaves on chain.

Read in this order: search, over examination and headers; responder answers what others demand.
"""
