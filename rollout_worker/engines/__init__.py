"""What samples, and what replays: load a policy, turn seeds into completions, or hold them to their seeds.

Read `base` (the protocol), `gumbel` (the seeded stream in torch), `causal` and `transformers` (the
plain engine), `likelihood` (exact log-probabilities), `vllm` and `vllm_hooks` (the fast one), `fit` and
`overflow` (what they refuse), `rounded`, `reseeded`, `fp8_cache` and `nucleus` (cheats, for tests, the demo
and to be named), and `registry`, where a new engine gets its name.
For replay: `prefill` (siblings' prompts once), `contest` and `candidates` (who wins, by blocks), and
`vllm_replay` (the same inside vLLM's worker).
"""
