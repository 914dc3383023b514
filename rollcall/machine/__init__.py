"""Examine this machine: doctor, checkup over sample and fitness; calibrate over variation, and the bounds that follow."""
