"""The verifier's program: replays, verdicts, fraud reports and epochs."""
