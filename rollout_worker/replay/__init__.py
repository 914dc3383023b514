"""Hold a group to its seeds: prefill, the contest of tokens, what was measured, and what was done instead.

Read in this order: measure, over prefill, contest and candidates; vllm and vllm_worker (the same inside vLLM); registry; hypotheses
with nucleus; calibrate, self_check.
"""
