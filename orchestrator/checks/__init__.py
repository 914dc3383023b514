"""Optional checks: canaries among the replays, and withholding of groups by what they are worth."""
