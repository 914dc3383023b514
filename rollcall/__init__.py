"""The front door: the `rollcall` command, and the one-machine market behind `rollcall demo`.

Read in this order: __main__ (the commands), roles (how each is started), settings (TOML to a frozen
model), keys, user_error, logs, console; spec and launch (a run and its escrow), reader, status, claim,
doctor, checkup with self_test and fitness (doctor --calibrate), calibration with variation, explain with
explained (one command each); then the demo: processes, embedded and devchain/ (the parts we
bring along), market (who takes part, with which config), containers (the same as compose/), demo (the
order of events), record (its events), view (the terminal), measure (accuracy anew), audit (recompute
what was earned), evidence (all of it), claims (what must hold), report (report.json, report.png and
the table).
"""
