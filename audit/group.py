"""Check whether a step record tells the truth of its groups, by their submissions.

From public bytes anyone can check for each group that the orchestrator leased it, that its worker signed
it under this digest and that the loss counted no more tokens than were sampled, and recompute every
completion's reward from its text. So neither trainer nor orchestrator can move a reward unseen.
"""

import random
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

from audit.lineage import Lineage
from audit.tasks import tokenizer_of
from client.public import Reader
from protocol.commitment import SpokeFor, check_work
from protocol.environments.base import Environment
from protocol.environments.decoding import Decoder
from protocol.environments.registry import environment
from protocol.errors import MarketError
from protocol.messages import RunInfo
from protocol.policies.lineage import TrainedGroup
from protocol.rollout import Submission, read_submission
from protocol.signing import Domain


def check_groups(
    reader: Reader,
    info: RunInfo,
    lineage: Lineage,
    *,
    count: int,
    say: Callable[[str], None],
    spoke_for: SpokeFor | None,
) -> list[str]:
    """Look at `count` groups of the lineage, drawn by its policy digest; return what is wrong."""
    groups = [share.group for step in lineage.steps for share in step.shares]
    draw = random.Random(lineage.policy_digest)
    chosen = draw.sample(groups, min(count, len(groups)))
    made = environment(info.spec.environment, info.spec.environment_config)
    tokenizer = tokenizer_of(reader.blob(info.spec.tokenizer_digest))
    wrong: list[str] = []
    for number, group in enumerate(chosen, 1):
        wrong += check_group(reader, info, group, made, tokenizer, spoke_for=spoke_for)
        if number % 50 == 0:
            say(f"{number} of {len(chosen)} groups looked at")
    return wrong


def check_group(
    reader: Reader,
    info: RunInfo,
    group: TrainedGroup,
    made: Environment,
    tokenizer: Tokenizer,
    *,
    spoke_for: SpokeFor | None,
) -> list[str]:
    """Return each statement of the record about a group that its submission contradicts."""
    name = f"group 0x{group.work_digest.hex()[:16]}…"
    try:
        status = reader.submission(info.run_id, group.work_digest)
        body = reader.blob(status.body)
        submission = read_submission(body, info.spec.most_submission_bytes)
    except MarketError as error:
        return [f"{name} is not shown: {error.message}"]
    domain = Domain(info.chain_id, info.ledger)
    try:
        check_work(
            *(group.work_digest, status.lease, submission),
            info=info,
            domain=domain,
            spoke_for=spoke_for,
        )
    except MarketError as error:
        return [f"{name}: {error.message}"]
    lease, found = status.lease.lease, []
    if (lease.worker, lease.policy_version) != (group.worker, group.policy_version):
        found.append(
            f"{name} is {lease.worker}'s, of version {lease.policy_version}; the record says "
            f"{group.worker}, version {group.policy_version}"
        )
    if any(len(rollout.tokens) % 4 for rollout in submission.rollouts):
        return [*found, f"{name} has tokens that are no whole ids"]
    lengths = [len(rollout.token_ids()) for rollout in submission.rollouts]
    if len(lengths) != len(group.tokens) or any(map(int.__gt__, group.tokens, lengths)):
        found.append(f"{name} has {lengths} tokens, the record counted {list(group.tokens)}")
    problem = made.problem(lease.index)
    scores = [made.score(problem, text) for text in texts(submission, info, tokenizer)]
    if scores != list(group.rewards):
        found.append(f"{name} earns {scores}, the record says {list(group.rewards)}")
    return found


def texts(submission: Submission, info: RunInfo, tokenizer: Tokenizer) -> Sequence[str]:
    """Return the completions as the reward reads them."""
    decoder = Decoder(tokenizer, info.spec.eos_token_ids)
    return [decoder.text(rollout.token_ids().tolist()) for rollout in submission.rollouts]
