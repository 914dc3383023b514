"""Leases work to strangers, takes it in, has it replayed, batches it and settles it.

Read `README.md` first, then: config; store/ (keys, records, queue over condition and outage; store with runs, events,
leases, groups, workers, tallies, verifiers, votes, canaries, reports, batches, policies, epochs; blobs over files and log, journal); the pure rules of
rules/ (registration, schedule, pacing, rejections, admission, ballots, examination, votes, batch, settle); services and run, and the shell around each rule (leases, intake, replays, pauses, training over stakes, policies,
epochs over unsettled, reconciling and restoring, slashes, permits, watch); chain, auth, budgets, events, views, metrics, gauges; app, wiring, connections, listening and routes/;
jobs and main. checks/ are optional.
"""
