"""Tasks and their rewards, recomputed by everyone: rewards are consensus code.

Read `base` (what an environment is), `arithmetic` (the smallest real one), `answers` (exact
comparison of strangers' answers), then `generated`, `gsm8k` and the dictionary in `registry`.
"""
