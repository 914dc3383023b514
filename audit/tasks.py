"""Check what each paid group's lease said: the drawn task's own prompt, the trainer's weights.

`epoch.py` checks that the lease is the run's, on its terms, and that the task itself was drawn. Checking
seeds and task alone would leave the orchestrator a choice: a friend's lease could name the drawn task and
carry an easier one's prompt.
"""

import string
from collections.abc import Callable, Sequence
from functools import cache

from tokenizers import Tokenizer

from audit.epoch import EpochReport, Look
from client.public import Reader
from protocol.canonical import content_digest
from protocol.environments.registry import environment
from protocol.errors import Malformed, MarketError
from protocol.policies.publication import check_manifest
from protocol.rollout import SignedLease
from protocol.run import RunSpec
from protocol.signing import Domain
from protocol.wire import MOST_TEXT

PromptOf = Callable[[int], tuple[int, ...]]
PolicyOf = Callable[[int], bytes]


class Unchecked(Exception):
    """Something that leases are checked against cannot be had; the message says what and why."""


def tokenizer_of(data: bytes) -> Tokenizer:
    """Read a run's tokenizer.json, which its operator wrote; raise `Malformed`."""
    try:
        made = Tokenizer.from_str(data.decode())
        made.decode(made.encode(string.printable).ids)
        return made
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # The library panics on some, which is no `Exception` and ends a process.
        raise Malformed(
            f"the run's tokenizer.json cannot be used: {str(error)[:MOST_TEXT]}; create the run again "
            "with the digest of another"
        ) from error


def prompts_of(reader: Reader, spec: RunSpec) -> PromptOf:
    """Return every task's prompt in tokens; raise `Unchecked`."""
    made = environment(spec.environment, spec.environment_config)
    if made.digest != spec.environment_digest:
        raise Unchecked(
            f"environment {spec.environment} has digest 0x{made.digest.hex()} here and "
            f"0x{spec.environment_digest.hex()} in the run's terms: prompts are unchecked; install "
            "the release that the run was made for"
        )
    try:
        data = reader.blob(spec.tokenizer_digest)
    except MarketError as error:
        raise Unchecked(f"the tokenizer is not published: {error.message}") from error
    if content_digest(data) != spec.tokenizer_digest:
        raise Unchecked(
            "the tokenizer shown is not the one of the run's terms: prompts are unchecked"
        )
    try:
        tokenizer = tokenizer_of(data)
    except Malformed as error:
        raise Unchecked(f"{error.message}: prompts are unchecked") from error
    return lambda index: tuple(tokenizer.encode(made.problem(index).prompt).ids)


def policies_of(reader: Reader, run_id: int, spec: RunSpec, domain: Domain) -> PolicyOf:
    """Return the digest that the trainer signed for each version; a call raises `MarketError`."""

    def signed(version: int) -> bytes:
        found = reader.manifest(run_id, version)
        check_manifest(found, run_id=run_id, version=version, spec=spec, domain=domain)
        return found.manifest.policy_digest

    return cache(signed)


def check_tasks(
    report: EpochReport,
    looks: Sequence[Look],
    *,
    prompt_of: PromptOf | None,
    policy_of: PolicyOf,
) -> None:
    """Check each lease against its task's prompt and the trainer's manifest.

    `prompt_of` is None if prompts cannot be made here, which is a difference of the run's.
    """
    for look in looks:
        if isinstance(look.shown, str):
            continue  # said already, where leases are looked at
        signed, submission = look.shown[0].lease, look.shown[1]
        try:
            what = _fault(signed, prompt_of, policy_of)
        except MarketError as error:
            what = str(error)
        if what is None and submission.prompt != signed.lease.prompt:
            what = "the body has another prompt than its lease"
        if what is not None:
            report.differences.append(f"nonce {look.item.nonce} of {look.item.worker}: {what}")


def _fault(signed: SignedLease, prompt_of: PromptOf | None, policy_of: PolicyOf) -> str | None:
    lease = signed.lease
    if prompt_of is not None and lease.prompt != prompt_of(lease.index):
        return f"the lease's prompt is not that of task {lease.index}, which was drawn"
    if lease.policy_digest != policy_of(lease.policy_version):
        return f"the lease's policy is not the one the trainer signed as version {lease.policy_version}"
    return None
