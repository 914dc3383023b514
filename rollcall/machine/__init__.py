"""Look at this machine: doctor, calibration, and the bounds that follow."""
