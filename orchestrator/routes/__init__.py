"""The HTTP surface, one file per subject; `orchestrator/app.py` mounts them all."""
