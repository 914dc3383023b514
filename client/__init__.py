"""An orchestrator from outside: the one door to httpx, for workers, verifiers, trainers and auditors.

Read in this order: connection over address, pace, retry and clock (sign-in, repetition, refusals, how slow an
answer may be, the market's time), public (what anyone may read), look (who answers at all),
then worker, verifier, trainer and operator (what each may do besides), policies over cache (weights brought to a
version), counters, model_folder (what is whole),
surroundings (proxies, and what children get).
"""
