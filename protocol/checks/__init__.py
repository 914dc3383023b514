"""Judge work: draws, bounds and their calibration, the sequential test, evidence, drops, canaries, withholding."""
