"""Rewards recomputed in bounded child processes: pool here, child there."""
