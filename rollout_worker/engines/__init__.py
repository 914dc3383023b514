"""What samples, and what replays: load a policy, turn seeds into completions, or hold them to their seeds.

Read `base` (the protocol), `gumbel` (the seeded stream in torch), `causal` and `transformers` (the
plain engine), `vllm`, `vllm_hooks` and `vllm_activations` (the fast one), `fit` (what they refuse),
`rounded` (the cheat that tests and the demo need), and `registry`, where a new engine gets its name.
For replay: `prefill` (siblings' prompts once), `contest` and `candidates` (who wins, by blocks), and
`vllm_replay` (the same inside vLLM's worker).
"""
