"""Leases work to strangers, takes it in, has it replayed, batches it and settles it.

Read `README.md` first, then: store/ (keys, queue, records, blobs), the pure rules of rules/ (schedule, admission,
batch, settle); then services, the shell around each rule (leases, intake, replays, pauses, training,
policies, epochs, slashes, views), routes/, app, the background tasks of jobs; checks/ are optional.
"""
