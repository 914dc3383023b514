"""Attack: a site of another name passes on the text that a wallet signed for it, Host header and all."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.auth import _is_named
from orchestrator.config import OrchestratorConfig
from orchestrator.listening import require_named
from orchestrator.main import main
from protocol.messages import SessionRequest
from protocol.signin import SignIn
from protocol.signing import personal_digest
from protocol.user_error import UserError
from tests.stage.ground import Ground
from tests.stage.place import HOST, Place, opened


def relayed(place: Place, domain: str) -> int:
    """Return the status of a trainer's sign-in for `domain` that its site sends on to us."""
    trainer = place.party("trainer")
    issued = datetime.fromtimestamp(place.ground.clock.now, UTC)
    message = SignIn(
        domain=domain,
        address=trainer.address,
        uri=f"http://{domain}",
        chain_id=place.ground.deployment.chain_id,
        nonce=f"relayed{place.run_id:06d}",
        issued_at=issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
    ).text()
    body = SessionRequest(message=message, signature=trainer.sign(personal_digest(message)))
    response = place.request("POST", "/v1/session", body.to_json(), {"host": domain})
    return int(response.status_code)


@pytest.mark.parametrize(("allowed", "status"), [((), 200), ((HOST,), 401)])
def test_a_relayed_sign_in_is_refused_where_the_domains_are_named(
    ground: Ground, redis_url: str, tmp_path: Path, allowed: tuple[str, ...], status: int
) -> None:
    config = {"allowed_domains": allowed}
    with opened(ground, redis_url, tmp_path, config=config) as place:
        assert relayed(place, "evil.test") == status


def test_who_serves_others_without_naming_its_sites_takes_any_site_s_sign_in(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """The app alone: what `main` asks of its settings is not asked."""
    with opened(ground, redis_url, tmp_path, config={"host": "0.0.0.0"}) as place:
        assert relayed(place, "evil.test") == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "market.test"])
def test_nobody_serves_others_under_whatever_name_they_say(host: str) -> None:
    with pytest.raises(
        UserError, match=r"a sign-in for any site would count here: .*allowed_domains="
    ):
        main(OrchestratorConfig(host=host), bytes(31) + b"\x01", lambda: None)
    require_named(host, ("market.test",))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_may_be_served_under_any_name(host: str) -> None:
    require_named(host, ())


@pytest.mark.parametrize(
    ("domain", "names", "is_ours"),
    [
        ("market.test", ("market.test",), True),
        ("market.test:8443", ("market.test",), True),
        ("Market.Test:8443", ("market.test",), True),
        ("market.test", ("MARKET.test",), True),
        ("[::1]:8000", ("[::1]",), True),
        ("market.test:8443", ("market.test:8443",), True),
        ("market.test:8444", ("market.test:8443",), False),
        ("market.test", ("market.test:8443",), False),
        ("market.test.evil:80", ("market.test",), False),
        ("evil.test:80", ("market.test", ""), False),
        ("[::1]", ("[:",), False),
        (":80", ("market.test",), False),
    ],
)
def test_a_name_without_a_port_stands_for_each_of_its_ports(
    domain: str, names: tuple[str, ...], is_ours: bool
) -> None:
    """A proxy may pass a Host on without its port, which the client that signs knows."""
    assert _is_named(domain, names) is is_ours
