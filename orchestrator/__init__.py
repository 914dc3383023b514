"""Leases work to strangers, takes it in, has it replayed, batches it and settles it.

Reading order: keys.py and queue.py (state), the pure rules scheduler.py, admission.py, audit.py,
batches.py, settlement.py; then market.py, routes/, app.py, and the background tasks of service.py.
"""
