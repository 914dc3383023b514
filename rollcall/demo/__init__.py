"""A market on one machine, run to a checked report.

Read in this order: run (the order of events), market (who takes part), services and processes with guard (what we bring along, and
how it ends), deploying, events, view, measure, results and claims (what must hold), report over picture; containers writes the same market for
Docker, and warm_start makes the starting model.
"""
