"""A market on one machine, run to a checked report."""
