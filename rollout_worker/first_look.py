"""What is looked at before money moves: that there is a run which this key may work for, and on the same chain."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import structlog

from ledger.errors import LedgerError
from protocol.errors import MarketError, Refused
from protocol.messages import RunInfo
from protocol.user_error import UserError
from rollout_worker.choose import OVER, Ability
from rollout_worker.wallet import Wallet


def require_run(runs: Sequence[RunInfo], ability: Ability, wallet: Wallet, *, at: str) -> None:
    """Raise `UserError` where no run that is wanted can ever be worked for with this key.

    A run that rests, or has no policy yet, is waited for; so is `any` run where none is served yet.
    """
    served = {info.run_id: info for info in runs}
    wanted = served if ability.wanted == "any" else dict.fromkeys(ability.wanted)
    why: dict[int, str] = {}
    for run_id in wanted:
        info = served.get(run_id)
        if info is None or info.status in OVER:
            why[run_id] = "is not served there" if info is None else f"is {info.status}"
            continue
        try:
            require_own_role(wallet.check_run(info).verifiers, info, wallet)
        except (MarketError, LedgerError) as error:
            why[run_id] = f"cannot be worked for: {error}"
        else:
            return
    if why and (ability.wanted != "any" or not _may_yet_come(served)):
        raise UserError(f"{_told(why)}; {at} serves {_names(served)}")


def require_own_role(verifiers: Collection[str], info: RunInfo, wallet: Wallet) -> None:
    """Raise `Refused` where this key has another part in the run: each party works with a key of its own."""
    roles = {
        info.spec.trainer: "its trainer's",
        info.spec.orchestrator: "its orchestrator's",
        **dict.fromkeys(verifiers, "a verifier's"),
    }
    for address in (wallet.address, wallet.identity()):
        if address in roles:
            raise Refused(
                f"{address} is {roles[address]} key in run {info.run_id}: take a key of its own "
                "(`rollcall key` makes one)"
            )


def require_verifiable(
    wallet: Wallet, runs: Sequence[RunInfo], wanted: Literal["any"] | Collection[int], *, at: str
) -> None:
    """Raise `Refused` where every run is another ledger's, and for a key with another part in one; `UserError`
    where none of the runs that are named is served.

    Where no run names this verifier a line says so: it may be in reserve, to take another's place.
    """
    served = {info.run_id: info for info in runs}
    if wanted != "any" and not served.keys() & set(wanted):
        absent = dict.fromkeys(wanted, "is not served there")
        raise UserError(f"{_told(absent)}; {at} serves {_names(served)}")
    ours = [info for info in runs if wanted == "any" or info.run_id in wanted]
    verifiers: dict[int, tuple[str, ...]] = {}
    why: dict[int, str] = {}
    for info in ours:
        try:
            verifiers[info.run_id] = wallet.check_run(info).verifiers
        except (MarketError, LedgerError) as error:
            why[info.run_id] = f"cannot be verified: {error}"
    if why and not verifiers:
        raise Refused(_told(why))
    me = wallet.identity()
    if any(me in named for named in verifiers.values()):
        return
    for info in ours:
        require_own_role((), info, wallet)
    told = {f"run_{run_id}": ", ".join(named) for run_id, named in verifiers.items()}
    log = structlog.get_logger()
    log.warning("no run names this verifier: waiting for one", verifier=me, **told)


def _may_yet_come(served: Mapping[int, RunInfo]) -> bool:
    return all(info.status in OVER for info in served.values())


def _told(why: Mapping[int, str]) -> str:
    return "; ".join(f"run {run_id} {reason}" for run_id, reason in why.items())


def _names(served: Mapping[int, RunInfo]) -> str:
    return f"runs {', '.join(map(str, served))}" if served else "no run"
