"""The commands at the market and at the ledger.

desk is a command's place at the ledger, with amounts, times and refusals. spec, launch_config and launch put a run on chain;
running, retracting and register steer and list runs; staking; claim; appeal; status; audit; watch with fraud_proof.
commands/ has their options.
"""
