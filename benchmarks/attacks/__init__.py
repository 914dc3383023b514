"""The attack lab as a benchmark: every sampling cheat, against replay and against its peers.

Read `models` (what is attacked, and how the larger one is made), `cheats` (the attacks), `bench` (who
samples, who replays), `record` (what is kept of it), `peers` (TOPLOC's and GRAIL's commitments on the
same work), `figures` (rates, delays and areas from the records), `table` and `plots`.
"""
