"""An orchestrator from outside: the one door to httpx, for workers, verifiers, trainers and auditors.

Read in this order: connection over retry (sign-in, back-off, refusals), market (a worker's and verifier's routes), trainer, public,
policies over cache (weights brought to a version), tally.
"""
