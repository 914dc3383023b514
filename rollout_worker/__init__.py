"""What a contributor runs: a worker that samples, a verifier that replays. Read `README.md` first.

Then: config, loop (a worker's program), choice, shift, outbox, commitment, weights, generate, engines/,
connection, client, cache, wallet; verifier (the other program), recheck, replay, vllm_replay, replayers,
calibrate, epochs, epoch_signer; metrics.
"""
