"""The ledger in Python: the one door to web3.

Read in this order: state (what the contracts keep), rules (what follows from it), ledger with registry, runs,
disputes and owed over calls (one method per contract function), sender and transactions, events and journal, register,
permit, amounts over setting, deployment, artifact; errors and node (what goes wrong).
"""
