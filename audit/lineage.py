"""Find which groups and workers shaped a policy version, from what its trainer signed.

Reads the step records of `protocol/policies/lineage.py` back from one signed manifest, checks the chain, and
counts influence. It needs no word of the orchestrator: a record that is missing, changed or moved
breaks the chain. Left out: what the groups hold, which `group.py` looks at.

A worker's part of a step is its groups' part of the absolute advantage (`lineage.Share`). Its part of a
span of versions is the mean over the steps that learned anything; each step counts alike.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from client.public import Reader
from protocol.errors import Malformed
from protocol.messages import RunInfo
from protocol.policies.lineage import NO_LINEAGE, Records, Share, StepRecord, read_record, shares_of
from protocol.policies.manifest import Manifest
from protocol.policies.publication import check_manifest
from protocol.signing import Domain
from protocol.user_error import UserError


@dataclass(frozen=True, slots=True)
class Origin:
    """What made one version."""

    version: int
    shares: tuple[Share, ...]

    @property
    def has_learned(self) -> bool:
        return any(share.weight for share in self.shares)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version and the requested steps behind it, oldest first, with their chain checked."""

    run_id: int
    version: int
    policy_digest: bytes
    trainer: str
    steps: tuple[Origin, ...]

    def workers(self) -> list[str]:
        """Return everybody whose groups are in the steps."""
        return sorted({share.group.worker for step in self.steps for share in step.shares})


@dataclass(frozen=True, slots=True)
class Influence:
    """One worker's part in a lineage. `weight` and `tokens` are means over the steps that learned."""

    worker: str
    num_groups: int
    versions: tuple[int, ...]
    """Versions that this worker's groups entered, ascending."""
    tokens: float
    weight: float
    largest: float
    """The worker's largest part of one step's absolute advantage."""
    largest_at: int
    """The version that step made; 0 if the worker touched none."""


def read_lineage(
    reader: Reader, run_id: int, *, version: int | None = None, num_steps: int | None = None
) -> Lineage:
    """Return a version's lineage, `num_steps` back or to the starting weights.

    Raises `MarketError` if the signature or the chain does not hold, `UserError` for a version that
    is not there.
    """
    info = reader.run(run_id)
    newest = info.newest_version
    wanted = newest if version is None else version
    if not 0 <= wanted <= newest:
        raise UserError(f"run {run_id} has versions 0 to {newest}, none with number {wanted}")
    manifest = _signed(reader, info, wanted)
    first = 1 if num_steps is None else max(1, wanted - num_steps + 1)
    data = _fetch(reader.lineage, run_id, first, wanted)
    records = chain(data, manifest, first=first)
    return Lineage(
        run_id=run_id,
        version=wanted,
        policy_digest=manifest.policy_digest,
        trainer=info.spec.trainer,
        steps=tuple(Origin(record.version, shares_of(record)) for record in records),
    )


def chain(data: Sequence[bytes], manifest: Manifest, *, first: int) -> list[StepRecord]:
    """Return the records that `data` holds from version `first` on; raise `Malformed` unless the
    manifest's lineage leads through all of them, and to the starting weights if `first` is 1.
    """
    if len(data) != manifest.version - first + 1:
        raise Malformed(
            f"{len(data)} step records for versions {first} to {manifest.version}: the orchestrator "
            "keeps some back, ask another copy of it"
        )
    digest, found = manifest.lineage, []
    for version in range(manifest.version, first - 1, -1):
        record = read_record(
            data[version - first], digest=digest, run_id=manifest.run_id, version=version
        )
        found.append(record)
        digest = record.previous
    if first <= 1 and digest != NO_LINEAGE:
        raise Malformed("the chain of records does not end at the starting weights")
    return found[::-1]


def influences(steps: Iterable[Origin]) -> list[Influence]:
    """Return every worker's part in the steps, the greatest first."""
    weight: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    tokens: dict[str, float] = defaultdict(float)
    num_groups: dict[str, int] = defaultdict(int)
    num_learned = 0
    for step in steps:
        num_learned += step.has_learned
        for share in step.shares:
            worker = share.group.worker
            num_groups[worker] += 1
            tokens[worker] += share.tokens
            if share.tokens:
                weight[worker][step.version] += share.weight
    found = [
        _influence(worker, num_groups[worker], weight[worker], tokens[worker], num_learned)
        for worker in num_groups
    ]
    return sorted(found, key=lambda one: (-one.weight, one.worker))


def _influence(
    worker: str, num_groups: int, weight: dict[int, float], tokens: float, num_learned: int
) -> Influence:
    largest_at = max(weight, key=lambda version: weight[version], default=0)
    return Influence(
        worker=worker,
        num_groups=num_groups,
        versions=tuple(sorted(weight)),
        tokens=tokens / max(1, num_learned),
        weight=sum(weight.values()) / max(1, num_learned),
        largest=weight.get(largest_at, 0.0),
        largest_at=largest_at,
    )


def _signed(reader: Reader, info: RunInfo, version: int) -> Manifest:
    signed, domain = reader.manifest(info.run_id, version), Domain(info.chain_id, info.ledger)
    check_manifest(signed, run_id=info.run_id, version=version, spec=info.spec, domain=domain)
    return signed.manifest


def _fetch(
    ask: Callable[[int, int, int], Records], run_id: int, first: int, last: int
) -> list[bytes]:
    """Return the raw records of versions `first` … `last`, over as many answers as it takes."""
    found: list[bytes] = []
    while len(found) < last - first + 1:
        answer = ask(run_id, first + len(found), last)
        if answer.first != first + len(found) or not answer.records:
            raise Malformed(f"asked for records from {first + len(found)}, got {answer.first}")
        found.extend(answer.records)
    return found
