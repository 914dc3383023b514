"""The commands that meet the chain, as Typer sees them: options and help only.

`options.py` has what they share; `stakes.py`, `runs.py`, `money.py`, `disputes.py`, `explaining.py`, `provenance.py` and
`council.py` one group each. What a command does is in the module of its noun (`rollcall/cli/staking.py`, …), imported when
it is called; the council's commands do it themselves.
"""
