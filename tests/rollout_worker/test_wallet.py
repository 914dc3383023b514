"""The wallet on a real chain: it registers, stakes, checks and joins, each once."""

from decimal import Decimal
from pathlib import Path

import pytest

from ledger.ledger import Ledger
from ledger.node import Node
from protocol.canonical import keccak256
from protocol.errors import NotFound, Refused
from protocol.messages import RunInfo
from rollout_worker.config import ChainConfig
from rollout_worker.wallet import MOST_EVIDENCE_BYTES, Hindrance, RunPermit, Wallet
from tests.stage.terms import make_spec, run_info
from tests.stage.world import RATE, STAKE, World

SPEC = make_spec(rate=RATE)


@pytest.fixture
def world(world: World) -> World:
    world.by("stranger").mint(world.address("stranger"), 10 * STAKE)
    agreed = {"spec_hash": SPEC.canonical_digest(), "num_parameters": SPEC.num_parameters}
    world.run_id = world.by("operator").create_run(world.params(**agreed), 50_000, "blob://spec")
    return world


def wallet_of(
    world: World, name: str, *, stake: int = STAKE, evidence_file: Path | None = None
) -> Wallet:
    config = ChainConfig(
        rpc_url="in process",
        deployment=Path("unused"),
        stake=Decimal(stake).scaleb(-18),
        evidence_file=evidence_file,
    )
    ledger = Ledger(world.node, world.deployment, world.people[name])
    return Wallet(ledger, config, world.address(name))


def info_of(world: World) -> RunInfo:
    return run_info(
        SPEC,
        run_id=world.run_id,
        chain_id=world.deployment.chain_id,
        ledger=world.deployment.ledger,
        token=world.deployment.token,
        min_stake=str(STAKE),
    )


def test_a_new_worker_registers_stakes_and_joins(world: World) -> None:
    wallet = wallet_of(world, "stranger")
    wallet.prepare()
    wallet.join(info_of(world))
    assert wallet.ledger.stake_of(wallet.address) == STAKE
    assert wallet.ledger.is_joined(world.run_id, wallet.address)


def test_a_restarted_worker_sends_nothing_twice(world: World) -> None:
    wallet = wallet_of(world, "stranger")
    for _ in range(2):
        wallet.prepare()
        wallet.join(info_of(world))
    height = world.chain.head.number
    wallet.prepare()
    wallet.join(info_of(world))
    assert world.chain.head.number == height


def test_the_stake_is_topped_up_to_the_configured_one(world: World) -> None:
    wallet_of(world, "stranger").prepare()
    wallet = wallet_of(world, "stranger", stake=STAKE + 5)
    wallet.prepare()
    assert wallet.ledger.stake_of(wallet.address) == STAKE + 5


def test_a_run_that_wants_more_stake_than_configured_is_refused(world: World) -> None:
    wallet = wallet_of(world, "stranger", stake=STAKE - 1)
    wallet.prepare()
    with pytest.raises(
        Refused, match=r"wants a stake of 0\.000000000000001 RTEST; chain\.stake is"
    ):
        wallet.join(info_of(world))


def test_a_gated_run_is_joined_with_the_evidence_of_a_file(world: World, tmp_path: Path) -> None:
    gate = world.contract("ListGate", keccak256(b"friend"))
    params = world.params(gate=gate.address, spec_hash=SPEC.canonical_digest())
    world.run_id = world.by("operator").create_run(params, 50_000, "blob://spec")
    file = tmp_path / "evidence"
    wallet = wallet_of(world, "stranger", evidence_file=file)
    wallet.prepare()
    with pytest.raises(Refused, match=r"cannot be joined: .*NotEligible"):
        wallet_of(world, "stranger").join(info_of(world))
    for content, why in (
        (None, f"{file} cannot be read: No such file"),
        ("friend", "is not hex"),
        ("00" * (MOST_EVIDENCE_BYTES + 1), "has 16,385 bytes, and 16,384 are sent at most"),
        ("00" * MOST_EVIDENCE_BYTES, "NotEligible"),
    ):
        if content is not None:
            file.write_text(content)
        with pytest.raises(Refused, match=why) as told:
            wallet.join(info_of(world))
        assert "\n" not in told.value.message
    file.write_text(f"0x{b'friend'.hex()}\n")
    wallet.join(info_of(world))
    assert wallet.ledger.is_joined(world.run_id, wallet.address)


def test_the_agreed_run_passes_and_an_altered_spec_is_refused(world: World) -> None:
    wallet = wallet_of(world, "stranger")
    info = info_of(world)
    wallet.check_run(info)
    cheaper = SPEC.model_copy(update={"group_size": SPEC.group_size + 1})
    with pytest.raises(Refused, match="has not the hash"):
        wallet.check_run(info.model_copy(update={"spec": cheaper}))


def test_a_stake_that_the_ledger_does_not_ask_for_is_refused(world: World) -> None:
    """A worker would put in what an orchestrator names, and a verifier sign it away."""
    wallet, info = wallet_of(world, "stranger"), info_of(world)
    more = str(10 * int(info.min_stake) + 1)
    with pytest.raises(Refused, match=f"asks for a stake of {info.min_stake}, not of {more}"):
        wallet.check_run(info.model_copy(update={"min_stake": more}))


def test_a_run_of_another_ledger_or_of_none_is_refused(world: World) -> None:
    wallet = wallet_of(world, "stranger")
    info = info_of(world)
    with pytest.raises(Refused, match="is served for ledger"):
        wallet.check_run(info.model_copy(update={"ledger": world.deployment.registry}))
    with pytest.raises(NotFound, match="not on this ledger"):
        wallet.check_run(info.model_copy(update={"run_id": 99}))


def permit_of(world: World, *, seconds: float = 0.0) -> RunPermit:
    return RunPermit(world.by("stranger"), world.run_id, seconds=seconds)


def test_a_run_is_worked_for_only_under_a_permit_on_chain(world: World) -> None:
    permit = permit_of(world)
    until = world.by("stranger").run(world.run_id).permit_until
    assert permit.hindrance() is None
    world.clock.now = until
    world.w3.provider.make_request("evm_mine", [])
    assert permit.hindrance() is None, "the permit's last second"
    world.w3.provider.make_request("evm_mine", [])
    assert permit.hindrance() == Hindrance(f"its permit ended at {until}")


def test_a_halt_hinders_and_a_stop_ends_work(world: World) -> None:
    permit = permit_of(world)
    world.by("operator").halt_run(world.run_id)
    found = permit.hindrance()
    assert found is not None
    assert "halted since" in found.reason
    assert not found.is_over
    world.by("operator").stop_run(world.run_id)
    assert permit.hindrance() == Hindrance("it is stopped", is_over=True)


def test_a_look_at_the_permit_is_believed_for_as_long_as_configured(world: World) -> None:
    now = 0.0
    permit = RunPermit(world.by("stranger"), world.run_id, seconds=2.0, clock=lambda: now)
    assert permit.hindrance() is None
    world.by("operator").halt_run(world.run_id)
    now = 1.9
    assert permit.hindrance() is None
    now = 2.0
    assert permit.hindrance() is not None


def test_a_chain_that_does_not_answer_is_no_permit(world: World) -> None:
    """An orchestrator that goes on leasing behind a broken line to the chain gets no work."""
    nobody = Ledger(Node.at("http://127.0.0.1:1", timeout_seconds=0.1), world.deployment)
    found = RunPermit(nobody, world.run_id, seconds=0.0).hindrance()
    assert found is not None
    assert "cannot be seen" in found.reason


def test_a_hot_key_works_for_its_owner_and_stakes_nothing(world: World) -> None:
    owner = world.by("alice")
    hot = world.people["stranger"]
    owner.add_signer(hot.address, owner.sign_consent(hot, world.address("alice")))
    wallet = wallet_of(world, "stranger")
    wallet.prepare()
    assert wallet.identity() == world.address("alice")
    assert wallet.ledger.stake_of(hot.address) == 0
    with pytest.raises(Refused, match="join with its own wallet"):
        wallet.join(info_of(world))
