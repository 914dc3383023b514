"""What anyone recomputes from public data: for the orchestrator, verifiers, workers, watchers and `rollcall audit`.

Read in this order: record (what is public), files, history, chain_facts, published (the leaves of an epoch),
fraud (what can be proven), epoch (one epoch recomputed), group, tasks, draws, paid, and run (every epoch of a run);
omissions, lineage, accusations; served (what an orchestrator publishes, for who watches it), watcher with watch_actions
and owed (claims by receipts); hidden/ (faults that no published file shows).
"""
