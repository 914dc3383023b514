"""The ledger and its Python client. Read `README.md`, `src/interfaces/`, then `client.py` with
`stakes.py`, `runs.py`, `disputing.py` over `door.py`; `state.py`, `deployment.py`, `gate.py`;
`sender.py`, `flights.py`, `node.py`, `events.py`, `listing.py`, `errors.py`; `build.py`."""
