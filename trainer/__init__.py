"""Turn bought rollouts into the next policy: a packed GRPO loop, and nothing else.

Read `loop` (one step, top to bottom), then `batch` (what comes in), `model` (numerics and packing),
`loss`, `scaling`, `publish` (what goes out), `checkpoint`, `evaluator` with `evaluations` and `evaluate`,
`metrics`, `client`, `config` and `main`.
`warm_start` makes the demo's starting model.
"""
