"""An Ethereum chain for one machine. Read `chain.py`, `journal.py`, `rpc.py`, `server.py`."""
