"""The ledger in Python: the one door to web3.

Read in this order: state (what the contracts keep), rules (what follows from it), ledger with registry, runs,
disputes and owed over calls (one method per contract function), sender, fees and transactions, events and journal,
register, permit, amounts over setting, deployment, artifact; node over answers and ranges (whom all of it asks, and what may be
said), errors (what goes wrong).
"""
