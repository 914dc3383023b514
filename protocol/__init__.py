"""What two strangers must agree on, bit for bit. No I/O, no torch, no clock.

Read in this order: README.md (the wire in numbered sections), constants, errors, canonical, wire, precision,
run, rollout, verdict, calibration, sequential, evidence, draw, policy, messages, signing, signin, sampling,
merkle, epoch, patch, advantage, environments/.
"""
