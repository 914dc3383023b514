"""An orchestrator from outside: the one door to httpx, for workers, verifiers, trainers and auditors.

Read in this order: connection over retry and clock (sign-in, repetition, refusals, the market's time), public (what anyone may read),
then worker, verifier, trainer and operator (what each may do besides), policies over cache (weights
brought to a version), counters.
"""
