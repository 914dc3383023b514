"""What tests stand on, and no test: real chains, stores, markets and people, made here once.

From the ground up: waiting, bounds, terms (a run's terms and people), containers; world, whole, anvil (the ledger on an
EVM in process, or beside it); epochs, books, watching, court, ledger_lab (epochs told
truly or bent by a lie); ground, place,
in_process, front (a run and the real app on it, in this process or on a port with a line's faults); evidence, lying,
counter, auditor, accused, signer; pace_law (what the store's Lua is held against); policies, work, training (a trainer's
side); live, light (a market of processes, with engines or without); sampling_lab (what is sampled and replayed).
"""
