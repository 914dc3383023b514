"""The HTTP surface, one file per caller; `orchestrator/app.py` mounts them all.

public (anyone: sign-in, runs, policies, epochs, events, probes), worker, verifier, trainer, blobs.
"""
