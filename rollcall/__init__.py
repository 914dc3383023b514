"""The front door: the `rollcall` command, and the one-machine market behind `rollcall demo`.

Read in this order: __main__ (the commands), frame/ (how a role is started: roles, settings, keys, logs, console), cli/ (desk, a
command's place at the ledger; spec and launch, a run and its escrow; then a file for each subject), explain/ (a verdict, a
policy's lineage), machine/ (doctor, calibration); demo/ (services and processes, the parts that we bring along; market, who
takes part; run, the order of events; events, view, measure; results and claims, what must hold; report).
"""
