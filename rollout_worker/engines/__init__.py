"""What samples: load a policy and turn seeds into completions.

Read in this order: base (the protocol), gumbel (the seeded stream in torch), causal and transformers (the plain engine),
likelihood (exact log-probabilities), vllm and vllm_hooks (the fast one), fit, overflow and probe (what they refuse), rounded,
reseeded and fp8_cache (cheats, for tests, the demo and to be named), and registry, where a new engine gets its name.
"""
