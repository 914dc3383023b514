"""Attack: a stranger who makes others pay, by new accounts, new addresses, or bodies before any count."""

import asyncio
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from eth_account import Account
from fastapi.routing import APIRoute
from starlette.requests import Request

from ledger.state import RunState
from orchestrator import budgets, intake, leases, replays, wiring
from orchestrator.auth import SignedIn
from orchestrator.budgets import Debtors, Trust, block_of, payer_of
from orchestrator.config import Limits
from orchestrator.services import Services
from orchestrator.store.keys import bucket
from protocol.errors import Malformed
from protocol.messages import LeaseRequest, ReturnedLeases, RunRegistration
from protocol.policies.manifest import MAX_CHUNK_BYTES
from protocol.rollout import Submission
from protocol.verdict import Verdict
from tests.adversarial.http.test_exhaustion import ask, serving, status
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened

FEW = Limits(address_requests_per_second=0.001, address_request_burst=60)


def hold_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse at once who owes."""
    monkeypatch.setattr(budgets, "HELD_SECONDS", 0.0)
    monkeypatch.setattr(budgets, "PACE_SECONDS", 0.0)


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
        hold_nobody(monkeypatch)
        assert 429 not in asked(place, 12), "in a wide budget nothing is noticed"
        place.services.config = place.services.config.model_copy(update={"limits": FEW})
        assert asked(place, 12).count(429) > 5
        assert alice.lease().status_code == 200, "a stake pays for itself"
        with monkeypatch.context() as without:
            without.setattr(wiring, "payer_of", by_account)
            assert [newcomer_asks(place, n) for n in range(50, 90)].count(429) == 0


def test_a_grain_of_stake_is_no_budget(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand identities with a grain each cost gas alone, and would be a thousand strangers."""
    hold_nobody(monkeypatch)
    place.services.config = place.services.config.model_copy(update={"limits": FEW})
    ground, stranger = place.ground, place.ground.address("stranger")
    least = place.services.least_stake()
    ground.by("stranger").mint(stranger, least)
    ground.by("stranger").register(1, stranger, stranger)
    assert pays_for_itself(place, "stranger") is False
    with monkeypatch.context() as off:
        off.setattr(Services, "least_stake", lambda _: 1)
        assert pays_for_itself(place, "stranger"), "with the defence off"
    ground.by("stranger").stake(least - 1)
    assert pays_for_itself(place, "stranger")


def pays_for_itself(place: Place, name: str) -> bool:
    """Return whether who signs in anew is charged as itself, and not as its address."""
    place.wait(2)  # what the chain said is remembered for a second
    place.services.chain._cache.clear()
    party = Party(place, place.ground.people[name])
    assert party.sign_in().status_code == 200
    return bool(jwt.decode(party.token, options={"verify_signature": False})["staked"])


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
        watching.setattr(intake, "repack", counting)
        for _ in range(count):
            assert party.submit(b"(\xb5/\xfd").status_code >= 400
    return len(read)


def test_a_body_is_not_read_for_who_has_no_lease_or_no_budget(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, alice = place.party("stranger"), place.party("alice")
    assert bodies_read(stranger, monkeypatch, 3) == 0
    with monkeypatch.context() as without:
        without.setattr(leases, "require_leased", _unpaid)
        assert bodies_read(stranger, without, 3) == 3
    alice.leases()
    most = Limits().request_burst // (1 + budgets.MALFORMED)
    assert bodies_read(alice, monkeypatch, 100) <= most + 1
    assert alice.submit(b"").json()["code"] == "too_many_requests"


def test_a_token_that_is_none_is_paid_by_its_address(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nobody(monkeypatch)
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


def refused_at(num_asking: int) -> list[float]:
    """Return when each of so many is refused that ask for one payer at once."""

    async def ask() -> list[float]:
        debtors, loop = Debtors(), asyncio.get_running_loop()
        debtors.note("crowd", 1.0)
        began, found = loop.time(), []

        async def refused() -> None:
            assert await debtors.refusal("crowd", 0.0)
            found.append(loop.time() - began)

        await asyncio.gather(*(refused() for _ in range(num_asking)))
        assert await debtors.refusal("another", 0.0) is None
        return found

    return asyncio.run(ask())


def test_more_connections_are_not_refused_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "HELD_SECONDS", 0.0)
    many = refused_at(30)
    assert max(many) >= 29 * budgets.PACE_SECONDS
    monkeypatch.setattr(budgets, "PACE_SECONDS", 0.0)
    at_once = refused_at(30)
    assert max(at_once) - min(at_once) < 29 * 0.02, "with the defence off"


def test_nobody_is_held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "PACE_SECONDS", 3600.0)
    monkeypatch.setattr(budgets, "MOST_HELD_SECONDS", 0.5)
    assert len(refused_at(3)) == 3


def test_who_owes_is_refused_before_its_request_is_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nobody(monkeypatch)
    alice = place.party("alice")
    place.services.config = place.services.config.model_copy(update={"limits": FEW})
    looked: list[str] = []
    whole = APIRoute.matches

    def counted(self: APIRoute, scope: Any) -> Any:
        looked.append(scope["path"])
        return whole(self, scope)

    monkeypatch.setattr(APIRoute, "matches", counted)
    while place.get("/v1/runs").status_code != 429:
        pass
    looked.clear()
    assert place.get("/v1/runs").json()["code"] == "too_many_requests"
    assert place.get("/v1/nowhere").status_code == 429
    assert not looked
    assert place.get("/healthz").status_code == 200
    assert alice.lease().status_code == 200, "a stake pays for itself"
    with monkeypatch.context() as off:
        off.setattr(Debtors, "any_owes", lambda *_: False)
        looked.clear()
        assert place.get("/v1/runs").status_code == 429
        assert looked


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
        place.wait(20)  # so that its address owes nothing
        reads.clear()
        body = RunRegistration(run_id=run_id, spec=place.spec.model_copy(update={"name": "false"}))
        for _ in range(20):
            assert place.request("POST", "/v1/runs", body.to_json()).status_code in (404, 409)
        assert len(reads) <= 1, "one read a second, whoever asks"
    monkeypatch.setattr(place.services.chain, "recent", place.services.chain.run)
    place.wait(20)
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


async def _unpaid(*_: object) -> None:
    return None


def num_answered(place: Place, path: str, most: int, **headers: str) -> int:
    """Ask for a path until its address owes; return how often it was answered."""
    codes = [place.get(path, **headers).status_code for _ in range(most)]
    return most - codes.count(429)


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/openapi.json", "/docs", "/", "/none"])
def test_what_describes_the_server_is_paid_by_its_address(
    place: Place, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    hold_nobody(monkeypatch)
    place.services.config = place.services.config.model_copy(update={"limits": FEW})
    with monkeypatch.context() as without:
        without.setattr(budgets, "spend", _unpaid)
        without.setattr(budgets, "charge", _unpaid)
        assert num_answered(place, path, 100) == 100
    assert num_answered(place, path, 100) <= FEW.address_request_burst
    assert place.request("DELETE", "/v1/runs").status_code == 429, "nor another method"
    assert num_answered(place, "/healthz", 100) == 100, "it does nothing"


def test_parts_of_blobs_are_paid_by_the_piece_and_by_the_byte(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand tiny ranges, and large ones over and over."""
    hold_nobody(monkeypatch)
    small = f"/v1/blobs/0x{place.upload(b'0123456789').digest.hex()}"
    large = f"/v1/blobs/0x{place.upload(bytes(MAX_CHUNK_BYTES)).digest.hex()}"
    place.services.config = place.services.config.model_copy(update={"limits": FEW})
    burst, address = FEW.address_request_burst, payer_of(FEW, "testclient").name

    def again() -> None:
        place.call(place.services.store.queue.call, "DEL", bucket(address))
        place.client.app.state.debtors._until.clear()  # type: ignore[attr-defined]

    again()
    assert num_answered(place, small, 1000, range="bytes=3-4") <= burst
    again()
    assert num_answered(place, large, 60, range="bytes=0-") <= burst // 5 + 1
    again()
    with monkeypatch.context() as without:
        without.setattr(budgets, "PART_BYTES", 1 << 40)
        assert num_answered(place, large, 60, range="bytes=0-") > burst // 2


def test_a_verdict_is_not_read_of_who_is_no_verifier(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    whole = Verdict.from_json

    def counted(body: bytes) -> Verdict:
        read.append(body)
        return whole(body)

    monkeypatch.setattr(Verdict, "from_json", counted)
    path, body = place.path(f"audits/0x{'00' * 32}/verdict"), b"[" * 1000
    for name in ("alice", "stranger", "v1"):
        assert place.party(name).post(path, body).json()["code"] == "forbidden"
    assert not read
    assert place.party("v0").post(path, body).json()["code"] == "malformed"
    assert len(read) == 1
    monkeypatch.setattr(replays, "require_verifier", _unpaid)
    place.party("alice").post(path, body)
    assert len(read) == 2


def test_what_anyone_may_send_is_small(place: Place) -> None:
    body = b" " * wiring.SMALL_JSON_BYTES + b"{}"
    for path in (place.path("leases"), place.path("leases/return"), "/v1/session"):
        answer = place.party("alice").post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    most = ReturnedLeases(lease_ids=(bytes(32),) * 1024).to_json()
    assert place.party("alice").post(place.path("leases/return"), most).status_code == 204


def test_strangers_behind_a_proxy_pay_each_for_themselves(
    place: Place, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real line: an address is taken from a proxy's header, and from nobody else's."""
    limits = {**FEW.model_dump(), "address_request_burst": 3}

    def codes(forwarded: list[str], trusted: str) -> list[int]:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", trusted)
        place.call(place.services.store.queue.call, "DEL", bucket("127.0.0.1"))
        found = []
        with serving(place.ground, redis_url, tmp_path, **limits) as port:
            for address in forwarded:
                with ask(port, "GET", "/v1/runs", f"x-forwarded-for: {address}") as connection:
                    found.append(status(connection))
        return found

    assert codes([f"198.51.100.{n}" for n in range(9)], "127.0.0.1") == [200] * 9
    assert 429 in codes(["203.0.113.1"] * 9, "127.0.0.1")
    spoofed = [f"{n}.2.2.2, 203.0.113.2" for n in range(9)]
    assert 429 in codes(spoofed, "127.0.0.1"), "the proxy's own entry is the last"
    assert 429 in codes([f"192.0.2.{n}" for n in range(9)], "10.0.0.1"), (
        "who is none changes nothing"
    )
