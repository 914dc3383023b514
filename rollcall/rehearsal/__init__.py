"""The rehearsal of a launch: what no role could run is found before money moves.

Read in this order: findings (what is told), folder (the model, opened by every role), tasks (the environment's problems,
lengths and rewards), rehearse (both, for a plan).
"""
