"""Tasks and their rewards, recomputed by everyone: rewards are consensus code.

Read in this order: base (what an environment is), arithmetic (the smallest real one), answers (exact
comparison of strangers' answers), generated (reasoning-gym's problems under our own scorers), gsm8k, math_check (an
expression that equals a number), and the dictionary in registry.
"""
