"""What a contributor runs: a worker that samples, a verifier that replays. Read `README.md` first.

Then: config, loop (a worker's program), choice, shift, outbox, commitment, weights, generate, engines/,
connection, client, cache, wallet, machine_check, appeals; verifier (the other program), recheck, replay,
hypotheses, vllm_replay, replayers, drift, calibrate, epochs, epoch_signer; metrics.
"""
