"""Optional checks: canaries among the replays, and groups withheld by what they are worth."""
