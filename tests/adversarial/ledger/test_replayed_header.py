"""Posting a voided header again, to have its signers slashed a second time for one lie."""

from dataclasses import astuple, replace

from protocol.canonical import keccak256
from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import SECRET, STAKE, refused

HEADER = keccak256(b"header")


def vrs(signature: bytes) -> tuple[int, bytes, bytes]:
    return signature[64], signature[:32], signature[32:64]


def test_without_a_generation_one_lie_is_punished_without_end(lab: Lab) -> None:
    verifier = lab.person("v0")
    weak = lab.weak("RepostsHeaders", verifier.address, 1_000, False)
    signature = vrs(bytes(verifier.unsafe_sign_hash(HEADER).signature))
    for _ in range(4):
        lab.send(weak.functions.post(HEADER, *signature))
        lab.send(weak.functions.prove(HEADER, 250))
    assert weak.functions.stake().call() == 0


def test_the_ledger_takes_a_voided_header_no_more(lab: Lab) -> None:
    epoch, header = lab.padded()
    lab.send(lab.bad_edge(epoch, header))
    assert [lab.stake(name) for name in QUORUM] == [0, 0]
    # The liars stake again: but for the generation, nothing would stop their old signatures.
    for name in QUORUM:
        lab.world.by(name).stake(STAKE)
    with refused("WrongGeneration", given=0, expected=1):
        lab.send(lab.posting(header))
    bitmap, signatures = lab.signed(header)
    moved = astuple(replace(header, generation=1))
    with refused("WrongSigner"):
        lab.send(lab.ledger.functions.postEpoch(moved, SECRET, bitmap, signatures, ""))
    with refused("NotDisputable"):
        lab.send(lab.bad_edge(epoch, header))
    assert [lab.stake(name) for name in QUORUM] == [STAKE, STAKE]
    # The same words under a new signature are a new lie.
    lab.send(lab.posting(replace(header, generation=1)))


def test_a_header_of_one_run_is_none_of_another(lab: Lab) -> None:
    header = lab.post(lab.epoch(alice=100))
    first = lab.world.run_id
    lab.world.run_id = lab.world.by("operator").create_run(lab.world.params(), 1_000, "")
    lab.world.open()
    bitmap, signatures = lab.signed(header)
    moved = astuple(replace(header, run_id=lab.world.run_id))
    assert lab.world.run_id != first
    with refused("WrongSigner"):
        lab.send(lab.ledger.functions.postEpoch(moved, SECRET, bitmap, signatures, ""))
