"""The ledger and its Python client. Read `README.md`, `src/interfaces/`, then `client.py`,
`state.py`, `sender.py`, `node.py`, `events.py`, `errors.py`, `deployment.py`, `build.py`."""
