"""What a contributor runs: a worker that samples, a verifier that replays. Read `README.md` first.

Then: config, main (a worker's program), choose, first_look, routes, session, nonces, generate, sell, wallet; engines/; pay/ (bookkeeping, receipts,
appeals, review, defence); replay/ (measure over prefill, contest and candidates; hypotheses, calibrate, self_check);
verify/ (opening and main, the other program; recheck over living, accusations over reports, epochs, draws, kept, pleas, drift, verdicts).
"""
