"""Find every provable fault of a posted epoch, with the call that proves it.

Pure: chain facts are arguments. Mirrors the rules of `Disputes` and judges only the leaves that can be
opened, so it serves a whole file and a few answered leaves alike. Left out: false rewards and withheld
data, which no proof shows (`hidden/search.py` and an escalation), and omissions, which only the holder of a
receipt can show.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from audit.published import Openable, Opened, account_of, account_witness, key_of
from ledger.state import AccountOpening, Fault, WorkOpening
from protocol.canonical import keccak256
from protocol.commitment import SpokeFor
from protocol.constants import NUM_TOKENS_PER_UNIT
from protocol.epoch import AccountLeaf, EpochHeader, WorkLeaf
from protocol.errors import BadSignature
from protocol.rollout import Work
from protocol.signing import Domain, recover

GIGA = 10**9


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts on chain that an epoch is judged by.

    `is_owed(at)` and `spoke_for(signer, worker, at)` are the ledger's and the registry's views.
    """

    domain: Domain
    posted_at: int
    num_parameters: int
    is_owed: Callable[[int], bool]
    spoke_for: SpokeFor


@dataclass(frozen=True, slots=True)
class Paid:
    """A leaf that another posted epoch of the run holds."""

    header: EpochHeader
    opening: WorkOpening


@dataclass(frozen=True, slots=True)
class Finding:
    """One provable fault. `method` and `arguments` are those of `ledger.ledger.Ledger`.

    Example: Finding(Fault.BAD_LEAF, "prove_bad_leaf", (header, opening, b""), "leaf 3 pays 5 for 4")
    """

    fault: Fault
    method: str
    arguments: tuple[Any, ...]
    what: str


PaidBefore = Callable[[WorkLeaf], Paid | None]
"""The earlier leaf with the same payload, or the same (worker, nonce)."""


def find(
    opened: Opened,
    facts: Facts,
    *,
    before: Openable[AccountLeaf] | None,
    paid_before: PaidBefore = lambda _leaf: None,
) -> Iterator[Finding]:
    """Yield every fault that the openings show, those of the work tree first.

    `before` is the account tree of the epoch before, empty for the first epoch, None if its file
    is not known.
    """
    disorder = list(_pair_faults(opened))
    yield from disorder
    yield from _edge_faults(opened)
    for place, leaf in opened.work.items():
        yield from _leaf_faults(opened, place, leaf, facts)
        yield from _repetitions(opened, place, leaf, before, paid_before)
    yield from _repetitions_within(opened)
    unsorted = list(_account_order_faults(opened))
    yield from unsorted
    # A witness proves something only in a sorted tree.
    if before is not None and not unsorted and not disorder:
        yield from _account_faults(opened, before)


# -------------------------------------------------------------------- work


def leaf_fault(leaf: WorkLeaf, run_id: int, facts: Facts) -> str | None:
    """Say what is false in a leaf by itself, whoever signed it."""
    return _amount_fault(leaf, run_id, facts) or _date_fault(leaf, facts)


def _amount_fault(leaf: WorkLeaf, run_id: int, facts: Facts) -> str | None:
    gflops = -(-2 * facts.num_parameters * leaf.tokens // GIGA)
    if leaf.run_id != run_id:
        return f"is of run {leaf.run_id}"
    if leaf.nonce == 0:
        return "has nonce 0, which no lease has"
    if leaf.units * NUM_TOKENS_PER_UNIT != leaf.tokens:
        return f"pays {leaf.units} units for {leaf.tokens} tokens"
    if leaf.gflops != gflops:
        return f"claims {leaf.gflops} gflops for {leaf.tokens} tokens, which are {gflops}"
    return None


def _date_fault(leaf: WorkLeaf, facts: Facts) -> str | None:
    if leaf.submitted_at > facts.posted_at:
        return f"is dated {leaf.submitted_at}, after its posting at {facts.posted_at}"
    if not facts.is_owed(leaf.submitted_at):
        return f"is dated {leaf.submitted_at}, when the run owed nothing"
    return None


def signature_fault(leaf: WorkLeaf, signature: bytes, facts: Facts) -> str | None:
    """Say why the signature that a leaf names is not its worker's."""
    try:
        signer = recover(facts.domain.digest(work_of_leaf(leaf)), signature)
    except BadSignature as error:
        return f"is not signed: {error.message}"
    if not facts.spoke_for(signer, leaf.worker, leaf.submitted_at):
        return f"is signed by {signer}, who did not speak for {leaf.worker}"
    return None


def pair_fault(left: WorkLeaf, right: WorkLeaf) -> str | None:
    """Say how two neighbours contradict one another."""
    if key_of(left) >= key_of(right):
        return f"({left.worker}, {left.nonce}) stands before ({right.worker}, {right.nonce})"
    sums = _sums_after(left, right)
    if sums != _sums(right):
        return f"running sums {_sums(right)} should be {sums}"
    return None


def edge_fault(leaf: WorkLeaf, place: int, header: EpochHeader) -> str | None:
    """Say how the first leaf's sums, or the last one's against the header, are wrong."""
    own = (leaf.units, leaf.units, leaf.tokens, leaf.gflops)
    if place == 0 and _sums(leaf) != own:
        return f"running sums {_sums(leaf)} of the first leaf should be {own}"
    totals = (header.total, header.tokens, header.gflops)
    if place == header.work_count - 1 and _sums(leaf)[1:] != totals:
        return f"the header's totals {totals} are not the last leaf's {_sums(leaf)[1:]}"
    return None


def work_of_leaf(leaf: WorkLeaf) -> Work:
    """Return what the leaf's worker signed."""
    return Work.model_construct(**{name: getattr(leaf, name) for name in Work.model_fields})


def _leaf_faults(opened: Opened, place: int, leaf: WorkLeaf, facts: Facts) -> Iterator[Finding]:
    signature = opened.signatures.get(place, b"")
    what = leaf_fault(leaf, opened.header.run_id, facts)
    if what is not None:
        yield _bad_leaf(opened, place, b"", what)
    elif signature and keccak256(signature) == leaf.signature_hash:
        what = signature_fault(leaf, signature, facts)
        if what is not None:
            yield _bad_leaf(opened, place, signature, what)


def _bad_leaf(opened: Opened, place: int, signature: bytes, what: str) -> Finding:
    arguments = (opened.header, opened.work_at(place), signature)
    return Finding(Fault.BAD_LEAF, "prove_bad_leaf", arguments, f"leaf {place} {what}")


def _pair_faults(opened: Opened) -> Iterator[Finding]:
    for place, left in opened.work.items():
        right = opened.work.get(place + 1)
        what = pair_fault(left, right) if right else None
        if what is not None:
            pair = (opened.work_at(place), opened.work_at(place + 1))
            told = f"leaves {place} and {place + 1}: {what}"
            yield Finding(Fault.BAD_PAIR, "prove_bad_pair", (opened.header, *pair), told)


def _edge_faults(opened: Opened) -> Iterator[Finding]:
    for place in sorted({0, opened.header.work_count - 1}):
        leaf = opened.work.get(place)
        what = edge_fault(leaf, place, opened.header) if leaf else None
        if what is not None:
            arguments = (opened.header, opened.work_at(place))
            yield Finding(Fault.BAD_EDGE, "prove_bad_edge", arguments, what)


def _repetitions(
    opened: Opened,
    place: int,
    leaf: WorkLeaf,
    before: Openable[AccountLeaf] | None,
    paid_before: PaidBefore,
) -> Iterator[Finding]:
    """Yield a leaf's work that an earlier epoch paid."""
    account = None if before is None else account_of(before, leaf.worker)
    if account is not None and leaf.nonce <= account.leaf.last_nonce:
        what = f"leaf {place} has nonce {leaf.nonce}, {account.leaf.last_nonce} was paid before"
        arguments = (opened.header, opened.work_at(place), account)
        yield Finding(Fault.STALE_NONCE, "prove_stale_nonce", arguments, what)
    earlier = paid_before(leaf)
    if earlier is not None:
        yield _duplicate(opened, place, earlier)


def _repetitions_within(opened: Opened) -> Iterator[Finding]:
    seen: dict[bytes, int] = {}
    for place, leaf in opened.work.items():
        first = seen.setdefault(leaf.payload_digest, place)
        if first != place:
            yield _duplicate(opened, place, Paid(opened.header, opened.work_at(first)))


def _duplicate(opened: Opened, place: int, earlier: Paid) -> Finding:
    at = f"leaf {earlier.opening.index} of epoch {earlier.header.epoch}"
    return Finding(
        Fault.DUPLICATE,
        "prove_duplicate",
        (opened.header, opened.work_at(place), earlier.header, earlier.opening),
        f"leaf {place} repeats the work of {at}",
    )


def _sums(leaf: WorkLeaf) -> tuple[int, int, int, int]:
    return leaf.worker_sum, leaf.epoch_sum, leaf.token_sum, leaf.gflop_sum


def _sums_after(left: WorkLeaf, right: WorkLeaf) -> tuple[int, int, int, int]:
    of_worker = left.worker_sum if left.worker == right.worker else 0
    return (
        of_worker + right.units,
        left.epoch_sum + right.units,
        left.token_sum + right.tokens,
        left.gflop_sum + right.gflops,
    )


# -------------------------------------------------------------------- accounts


def _account_order_faults(opened: Opened) -> Iterator[Finding]:
    for place, left in opened.accounts.items():
        right = opened.accounts.get(place + 1)
        if right and key_of(left) >= key_of(right):
            pair = (opened.account_at(place), opened.account_at(place + 1))
            what = f"accounts {place} and {place + 1} do not ascend: {left.worker}, {right.worker}"
            yield Finding(Fault.ACCOUNT_ORDER, "prove_account_order", (opened.header, *pair), what)


def _account_faults(opened: Opened, before: Openable[AccountLeaf]) -> Iterator[Finding]:
    trees = (before, opened.work, opened.accounts)
    workers = {leaf.worker for tree in trees for _, leaf in tree.items()}
    for worker in sorted(workers, key=lambda address: int(address, 16)):
        finding = _bad_account(opened, before, worker)
        if finding is not None:
            yield finding


def _bad_account(opened: Opened, before: Openable[AccountLeaf], worker: str) -> Finding | None:
    """Return the proof, if it can be shown, that an account is not the one before plus its work."""
    had = account_witness(before, worker)
    did = opened.work_witness(worker)
    has = opened.account_witness(worker)
    if had is None or did is None or has is None:
        return None
    due = _account_after(worker, _shown(had, worker), _shown(did, worker))
    posted = _shown(has, worker)
    if due == posted:
        return None
    what = f"the account of {worker} is {_told(posted)}, not {_told(due)}"
    arguments = (opened.header, worker, had, did, has)
    return Finding(Fault.BAD_ACCOUNT, "prove_bad_account", arguments, what)


def _account_after(
    worker: str, before: AccountLeaf | None, last: WorkLeaf | None
) -> AccountLeaf | None:
    """Return the account that follows; `last` is the worker's last leaf, with its own sum."""
    if last is None:
        return before
    earned = before.earned if before else 0
    return AccountLeaf(worker, earned + last.worker_sum, last.nonce)


def _shown(openings: Sequence[WorkOpening] | Sequence[AccountOpening], worker: str) -> Any:
    """Return the worker's own leaf of a witness, None if it shows a gap."""
    leaves = [o.leaf for o in openings if int(o.leaf.worker, 16) == int(worker, 16)]
    return leaves[0] if leaves else None


def _told(account: AccountLeaf | None) -> str:
    return f"{account.earned} units to nonce {account.last_nonce}" if account else "missing"
