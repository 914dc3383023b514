"""Rewards recomputed in bounded child processes: scoring over pool and line here, child there."""
