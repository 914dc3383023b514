"""A verifier's signer of epochs at a place's real app and chain, with what may fail under it in hand."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from client.connection import Connection
from client.counters import Counters
from client.verifier import VerifierRoutes
from protocol.messages import RunInfo
from rollout_worker.config import ReplayConfig
from rollout_worker.verify.epochs import EpochSigner, Verifier
from rollout_worker.verify.kept import KeptFiles
from rollout_worker.verify.verdicts import VerdictBook
from tests.stage.in_process import InProcess
from tests.stage.place import HOST, Place


@pytest.fixture(autouse=True)
def at_the_runs_time(place: Place) -> Iterator[None]:
    """Have clients sign in by the run's clock, which is far from this machine's."""

    class There(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(place.ground.clock.now, tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("client.connection.datetime", There)
        yield


def signer_of(
    place: Place,
    folder: Path,
    *,
    ledger: Any = None,
    counters: Counters | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> EpochSigner:
    """Open the verifier's signer; `ledger` is its node, the place's own where none is given."""
    verifier = verifier_of(place, folder, ledger=ledger, counters=counters)
    return EpochSigner(verifier, info_of(place), VerdictBook(folder / "verdicts"), clock=clock)


def verifier_of(
    place: Place, folder: Path, *, ledger: Any = None, counters: Counters | None = None
) -> Verifier:
    """Return the first verifier as its program knows it."""
    party = place.party("v0")
    connection = Connection(
        f"http://{HOST}",
        party.key,
        chain_id=place.ground.deployment.chain_id,
        transport=InProcess(place.client),
    )
    return Verifier(
        config=SimpleNamespace(  # type: ignore[arg-type]
            status_checks_per_epoch=0, data_dir=folder, poll_seconds=60.0, replay=ReplayConfig()
        ),
        key=party.key,
        identity=party.address,
        domain=place.services.chain.domain,
        routes=VerifierRoutes(connection),
        wallet=SimpleNamespace(ledger=ledger or place.ground.by("v0")),  # type: ignore[arg-type]
        kept=KeptFiles(place.ground.by("v0"), folder / "signed", address=party.address),
        counters=counters or Counters(folder, "verifier"),
        stop=threading.Event(),
    )


def info_of(place: Place) -> RunInfo:
    return RunInfo.from_json(place.get(f"/v1/runs/{place.run_id}").content)
