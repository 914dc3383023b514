"""The front door: the `rollcall` command, and the one-machine market behind `rollcall demo`.

Read in this order: __main__ (mounts the commands), frame/ (how a role is started: roles, settings, folder, keys, logs, console), cli/
(the commands), explain/ (a verdict, a policy's lineage), machine/ (doctor, calibration), demo/ (a market on one machine).
"""
