"""What the market costs, measured: each module prints a table and writes `build/bench/<name>.json`.

`attacks` (every sampling cheat against replay and its
peers), `claims` (what a false log-probability is worth), `gas` (of all that the ledger does, against the
design's figures and two naive ledgers), `hostile` (honest submissions beside hostile requests of ten kinds), `intake`
(submissions per second against a bare route), `overhead` (tokens sold against the same vLLM offline),
`replay` (verifying against generating), `trainer` (against TRL's GRPOTrainer on the same groups), `withholding` (groups until a worker that keeps
poor ones back is found). `serving` has the market that `hostile` and `intake` load. `python -m benchmarks` runs all.
"""
