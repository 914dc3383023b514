"""The front door: the `rollcall` command, and the one-machine market behind `rollcall demo`.

Read in this order: __main__ (the commands), settings (TOML to a frozen model), logs, spec and launch
(a run and its escrow), doctor, then the demo: processes, embedded, market (what is started, with
which config), demo (the order of events), view (the terminal), audit (recompute what was earned),
claims (what must hold), report (report.json, report.png and the table).
"""
