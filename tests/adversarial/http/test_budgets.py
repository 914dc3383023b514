"""Attack: a stranger who makes others pay, by new accounts, new addresses, or bodies before any count."""

import time
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from starlette.requests import Request

from ledger.state import RunState
from orchestrator import budgets, intake, leases, wiring
from orchestrator.auth import SignedIn
from orchestrator.budgets import Trust, block_of, payer_of
from orchestrator.config import Limits
from protocol.errors import Malformed
from protocol.messages import LeaseRequest, RunRegistration
from protocol.rollout import Submission
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened

FEW = Limits(address_requests_per_second=0.001, address_request_burst=60)


def newcomer(place: Place, number: int) -> Party:
    """Return a wallet that nobody has seen, and that has nothing at stake."""
    return Party(place, Account.from_key(number.to_bytes(32, "big")))


def asked(place: Place, num_wallets: int) -> list[int]:
    """Return what wallets of one address are answered that ask for leases five times each."""
    found = []
    for number in range(1, num_wallets + 1):
        party = newcomer(place, number)
        if party.sign_in().status_code != 200:
            found.append(429)
            continue
        found += [party.lease().status_code for _ in range(5)]
    return found


def test_new_wallets_are_not_new_budgets(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(ground, redis_url, tmp_path / "a") as place:
        alice = place.party("alice")
        monkeypatch.setattr(budgets, "HELD_SECONDS", 0.0)
        assert 429 not in asked(place, 12), "in a wide budget nothing is noticed"
        place.services.config = place.services.config.model_copy(update={"limits": FEW})
        assert asked(place, 12).count(429) > 5
        assert alice.lease().status_code == 200, "a stake pays for itself"
        with monkeypatch.context() as without:
            without.setattr(wiring, "payer_of", by_account)
            assert [newcomer_asks(place, n) for n in range(50, 90)].count(429) == 0


def by_account(request: Request, account: SignedIn | None = None) -> budgets.Payer:
    """Every account its own budget, and so every key that anybody makes."""
    return budgets.Payer(account.identity if account else str(id(request)), 100.0, 400)


def newcomer_asks(place: Place, number: int) -> int:
    party = newcomer(place, number)
    party.sign_in()
    return party.lease().status_code


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_ipv6_network_is_one_stranger(first: str, second: str, is_one: bool) -> None:
    assert (block_of(first) == block_of(second)) is is_one
    assert payer_of(Limits(), first).name == block_of(first)


def test_what_is_not_paid_at_once_is_owed(place: Place) -> None:
    """One request left admits a dear one, and the next waits for all of it."""
    asks: dict[str, Any] = {"rate": 1.0, "burst": 10, "now": 1000.0}
    store = place.services.store.runs
    place.call(lambda: store.admit_request("dear", 15, **asks))
    with pytest.raises(Exception, match=r"come back in 6.00 s"):
        place.call(lambda: store.admit_request("dear", 1, **asks))
    place.call(lambda: store.charge("dear", 1000, **asks))
    with pytest.raises(Exception, match=r"come back in 11.00 s"):
        place.call(lambda: store.admit_request("dear", 1, **asks))


def bodies_read(party: Party, monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    """Return how many of `count` bodies that are none were inflated."""
    read: list[bytes] = []

    def counting(body: bytes, most: int) -> Submission:
        read.append(body[:most])
        raise Malformed("not one")

    with monkeypatch.context() as watching:
        watching.setattr(intake, "read_submission", counting)
        for _ in range(count):
            assert party.submit(b"(\xb5/\xfd").status_code >= 400
    return len(read)


def test_a_body_is_not_read_for_who_has_no_lease_or_no_budget(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, alice = place.party("stranger"), place.party("alice")
    assert bodies_read(stranger, monkeypatch, 3) == 0
    with monkeypatch.context() as without:
        without.setattr(leases, "require_leased", _anybody)
        assert bodies_read(stranger, without, 3) == 3
    alice.leases()
    most = Limits().request_burst // (1 + budgets.MALFORMED)
    assert bodies_read(alice, monkeypatch, 100) <= most + 1
    assert alice.submit(b"").json()["code"] == "too_many_requests"


async def _anybody(*_: object) -> None:
    return None


def test_a_token_that_is_none_is_paid_by_its_address(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "HELD_SECONDS", 0.0)
    place.services.config = place.services.config.model_copy(update={"limits": FEW})
    for path in ("submissions", "leases"):
        forged = {"authorization": f"Bearer {path}"}
        codes = [
            place.request("POST", place.path(path), b"", forged).status_code for _ in range(80)
        ]
        assert codes[-1] == 429, path


def test_who_owes_waits_for_its_refusal(place: Place) -> None:
    place.services.config = place.services.config.model_copy(update={"limits": FEW})
    while place.get("/v1/runs").status_code != 429:
        pass
    began = time.monotonic()
    assert place.get("/v1/runs").status_code == 429
    assert time.monotonic() - began >= budgets.HELD_SECONDS


def test_trust_is_a_few_bodies_and_ends_with_a_refusal() -> None:
    trust, sender = Trust(), (1, "alice")
    assert not trust.use(sender)
    for _ in range(1000):
        trust.earn(sender)
    assert sum(trust.use(sender) for _ in range(1000)) == Trust.MOST_BODIES
    trust.earn(sender)
    trust.lose(sender)
    assert not trust.use(sender)


def test_runs_that_strangers_name_are_not_read_from_the_chain_each_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    ledger = place.services.chain.ledger
    whole = ledger.run

    def counted(run_id: int) -> RunState:
        reads.append(run_id)
        return whole(run_id)

    monkeypatch.setattr(ledger, "run", counted)
    for run_id in (place.run_id, 1 << 40):
        reads.clear()
        body = RunRegistration(run_id=run_id, spec=place.spec.model_copy(update={"name": "false"}))
        for _ in range(20):
            assert place.request("POST", "/v1/runs", body.to_json()).status_code in (404, 409)
        assert len(reads) <= 1, "one read a second, whoever asks"
    monkeypatch.setattr(place.services.chain, "recent", place.services.chain.run)
    body = RunRegistration(run_id=place.run_id, spec=place.spec.model_copy(update={"name": "f"}))
    reads.clear()
    for _ in range(20):
        place.request("POST", "/v1/runs", body.to_json())
    assert len(reads) == 20


def test_a_malformed_request_costs_more_than_a_good_one(place: Place) -> None:
    alice, limits = place.party("alice"), Limits()
    good = LeaseRequest(count=1).to_json()
    bad = b'{"count":"x"}'
    path = place.path("leases")
    codes = [alice.post(path, bad).status_code for _ in range(limits.request_burst // 4)]
    assert codes.count(400) <= limits.request_burst // (1 + budgets.MALFORMED) + 1
    assert alice.post(path, good).status_code == 429
