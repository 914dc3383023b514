"""The commands, a file for each subject: its options and its work.

Read in this order: options (what commands share, and `at_ledger`, which makes a command of a function) and desk (a
command's place at the ledger), with times and refusals. roles, verify, demo, doctor and calibrate start
code from elsewhere. spec, launch_config and launch put a run on chain, model looks at what it is made of; run steers it, register lists it. keys, stake,
claim with epoch_files and owed; appeal and council; status, provenance, audit with fraud_proof, and watch ask about others.
"""
