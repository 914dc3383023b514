"""What two strangers must agree on, bit for bit. No torch, no clock, no I/O.

Read in this order: wire.md (the specification in numbered sections), constants, errors, canonical, wire, precision,
run, architectures, inflate, rollout, commitment, verdict, messages, signing, signin, sampling, merkle, epoch, advantage, user_error;
policies/ (manifest, publication, patch, lineage); checks/ (draw, seal, calibration, sequential, evidence, drops, withholding, canary);
environments/.
"""
