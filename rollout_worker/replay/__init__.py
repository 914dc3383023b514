"""Hold a group to its seeds: prefill, the contest of tokens, what was measured, and what was done instead."""
