"""The contracts, compiled in `artifacts/`. Read `README.md`, then `src/interfaces/`; the client is `ledger/`."""
