"""The ledger against a real EVM. `world.py` has the people, `conftest.py` the chain."""
