"""Explain to a person one group's verdicts (explain and its view), or what made a policy (provenance)."""
