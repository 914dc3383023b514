"""Python and Solidity hash alike: leaves, signed messages, trees and the signing domain."""

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import pytest
from eth_utils import to_checksum_address
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.state import Condemnation
from protocol.canonical import keccak256
from protocol.constants import NUM_TOKENS_PER_UNIT
from protocol.epoch import AccountLeaf, EpochHeader, FraudReport, RetractEpoch, WorkLeaf
from protocol.merkle import Tree
from protocol.rollout import Receipt, Work
from protocol.signing import Domain, hash_struct
from protocol.verdict import NOTHING_MEASURED, Outcome, Rejection, Verdict
from tests.stage.world import World

ON_CHAIN = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ADDRESS = st.sampled_from(
    [
        "0x0000000000000000000000000000000000000000",
        to_checksum_address("0x" + "c0ffee" * 6 + "c0de"),
    ]
)
WORD = st.binary(min_size=32, max_size=32)
U32, U63, U64, U128, U256 = (st.integers(0, 2**bits - 1) for bits in (32, 63, 64, 128, 256))


@pytest.fixture(scope="module")
def probe(deployed: World) -> Iterator[Any]:
    with deployed.undone():
        yield deployed.contract("Probe").functions


@ON_CHAIN
@given(account=st.builds(AccountLeaf, ADDRESS, U128, U64))
def test_account_leaves_agree(probe: Any, account: AccountLeaf) -> None:
    assert probe.account(*astuple(account)).call() == account.digest()


@ON_CHAIN
@given(
    leaf=st.builds(
        WorkLeaf,
        *(U256, ADDRESS, U64, WORD, U64, U64, U64, U64, WORD),
        *(U128, U128, U128, U64, U64),
    )
)
def test_work_leaves_agree(probe: Any, leaf: WorkLeaf) -> None:
    assert probe.workLeaf(astuple(leaf)).call() == leaf.digest()


@ON_CHAIN
@given(
    header=st.builds(
        EpochHeader, *(U256, U32, U64, WORD, WORD, WORD, U32, U32, U128, U64, U64, WORD)
    )
)
def test_headers_agree(probe: Any, header: EpochHeader) -> None:
    assert probe.header(astuple(header)).call() == header.struct_hash()


@ON_CHAIN
@given(retract=st.builds(RetractEpoch, U256, U32, U64, WORD))
def test_retractions_agree(probe: Any, retract: RetractEpoch) -> None:
    assert probe.retract(*astuple(retract)).call() == retract.struct_hash()


@ON_CHAIN
@given(
    work=st.builds(
        Work,
        **{"run_id": U63, "worker": ADDRESS, "nonce": U63, "payload_digest": WORD},
        **dict.fromkeys(("policy_version", "submitted_at", "tokens", "gflops"), U64),
    ),
    at=U64,
    digest=WORD,
)
def test_work_and_its_receipt_agree(probe: Any, work: Work, at: int, digest: bytes) -> None:
    words = tuple(work.__dict__.values())
    assert probe.work(words).call() == hash_struct(work)
    rest: dict[str, Any] = dict.fromkeys(
        ("units", "worker_sum", "epoch_sum", "token_sum", "gflop_sum"), 0
    )
    leaf = WorkLeaf(**work.__dict__, **rest, signature_hash=bytes(32))
    assert probe.workOf(astuple(leaf)).call() == hash_struct(work)
    receipt = Receipt(
        run_id=work.run_id,
        worker=work.worker,
        nonce=work.nonce,
        work_digest=digest,
        received_at=at,
        rejection="",
        detail="",
        signature=bytes(65),
    )
    assert probe.receipt(words, digest, at).call() == hash_struct(receipt)


@ON_CHAIN
@given(run=U63, digest=WORD, reason=st.sampled_from(Rejection), at=U64)
def test_verdicts_that_work_is_false_agree(
    probe: Any, run: int, digest: bytes, reason: Rejection, at: int
) -> None:
    verifier = to_checksum_address("0x" + "c0ffee" * 6 + "c0de")
    verdict = Verdict(
        run_id=run,
        work_digest=digest,
        verifier=verifier,
        outcome=Outcome.REJECTED,
        rejection=reason.value,
        detail="",
        rollouts=(),
        stats=NOTHING_MEASURED,
        mismatches=(),
        decided_at=at,
        signature=bytes(65),
    )
    shown = astuple(Condemnation.of(verdict, 3))
    assert probe.rejection(run, digest, verifier, shown).call() == hash_struct(verdict)
    accepted = verdict.model_copy(update={"outcome": Outcome.ACCEPTED})
    assert probe.rejection(run, digest, verifier, shown).call() != hash_struct(accepted)


def test_a_unit_is_as_many_tokens_on_chain(probe: Any) -> None:
    assert probe.tokensPerUnit().call() == NUM_TOKENS_PER_UNIT


@ON_CHAIN
@given(report=st.builds(FraudReport, U256, ADDRESS, WORD, WORD, U128, U64))
def test_reports_agree(probe: Any, report: FraudReport) -> None:
    assert probe.report(astuple(report)).call() == report.struct_hash()


@ON_CHAIN
@given(count=st.integers(1, 40), data=st.data())
def test_trees_agree(probe: Any, count: int, data: st.DataObject) -> None:
    leaves = [keccak256(bytes([n])) for n in range(count)]
    tree, index = Tree(leaves), data.draw(st.integers(0, count - 1))
    proof = tree.proof(index)
    assert probe.verify(tree.root, leaves[index], index, count, proof).call()
    assert not probe.verify(tree.root, leaves[index], index ^ 1, count, proof).call()
    assert not probe.verify(tree.root, leaves[index], index, count * 2, proof).call()
    assert not probe.verify(tree.root, leaves[index], index + 2**255, count, proof).call()


def test_the_empty_tree_proves_nothing(probe: Any) -> None:
    assert not probe.verify(bytes(32), bytes(32), 0, 0, []).call()


def test_the_domain_is_the_ledgers(world: World) -> None:
    header = world.header(world.accounts(alice=1))
    separator = world.by("alice").domain_separator()
    domain = Domain(world.deployment.chain_id, world.deployment.ledger)
    assert domain.digest(header) == keccak256(b"\x19\x01" + separator + header.struct_hash())
