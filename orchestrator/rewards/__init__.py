"""Rewards recomputed in bounded child processes: scoring over pool here, child there."""
