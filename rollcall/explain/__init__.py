"""Explain one group's verdicts, or what made a policy, to a person: explain and its view, provenance."""
