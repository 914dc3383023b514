"""Gas of everything the ledger does, on anvil, beside the design's figures and two naive ledgers.

`rows` (a figure and its bar), `market` (people and a chain), `life` (a run's own transactions), `proofs`
(fraud and disputes), `naive` (ledgers without trees), `__main__` (the table).
"""
