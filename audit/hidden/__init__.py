"""Faults in a posted epoch that its published file does not show: found by demanding leaves on chain."""
