"""Leases work to strangers, takes it in, has it replayed, batches it and settles it.

Read `README.md` first, then: keys and queue (state), the pure rules scheduler, admission,
batches, settlement; then market, the shell around each rule (leasing, intake, replaying, pausing, training,
publishing, settling, slashing, reporting), routes/, app, and the background tasks of service.
"""
