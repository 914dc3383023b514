"""The HTTP surface, one file per caller; `orchestrator/app.py` mounts them all.

public (anyone: sign-in, runs, policies, epochs, events, probes), page (for browsers), worker, verifier, trainer, blobs.
"""
