"""Judge work: draws, sealed votes, bounds and their calibration, the sequential test, evidence, drops, canaries, withholding."""
