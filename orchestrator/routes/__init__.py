"""The HTTP surface, one file per subject; `orchestrator/app.py` mounts them all.

For everybody: session, runs, public, blobs, policies. For workers: leases, submissions. For verifiers: audits, epochs, verifiers.
For the trainer: batches.
"""
