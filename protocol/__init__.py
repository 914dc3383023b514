"""What two strangers must agree on, bit for bit. No I/O, no torch, no clock.

Read in this order: wire.md (the specification in numbered sections), constants, errors, canonical, wire, precision,
run, positions, inflate, rollout, commitment, verdict, messages, signing, signin, sampling, merkle, epoch, advantage, user_error;
policies/ (manifest, publication, patch, lineage); checks/ (draw, calibration, sequential, evidence, drops, withholding, canary);
environments/.
"""
