"""Turn bought rollouts into the next policy: a packed GRPO loop, and nothing else.

Read in this order: loop (one step, top to bottom), batch (what comes in), behaviour (log-probabilities recomputed), model (numerics
and packing), loss, scaling, publish (what goes out), checkpoint, evaluator with evaluations and evaluate, metrics, config, opening, main.
"""
