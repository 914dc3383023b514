"""Rewards recomputed in bounded child processes."""
