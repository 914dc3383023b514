"""Tasks and their rewards, recomputed by everyone: rewards are consensus code.

Read in this order: base (what an environment is), decoding (the text of a completion), arithmetic (the smallest real one), answers (the final
answer of a completion), dress, tokens, numerals, expressions (what it states, exactly), generated
(reasoning-gym's problems under our own scorers), gsm8k, the dictionary in registry, and share (which tasks are leased, which held out).
"""
