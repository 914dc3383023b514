"""Whether an environment's problems can be put to a model, and its right answers earn.

Prompts and held-out problems are made and encoded as leases and evaluations do, and reference answers are scored as
the tokenizer can write them. Longer prompts than the run allows are passed over later; here it is said how many.
"""

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from protocol.environments.base import FULL_SCORE, Environment, Problem
from protocol.environments.decoding import Decoder
from protocol.run import RunSpec
from rollcall.rehearsal.findings import Finding

LOOKED_AT = 512
"""Most problems of a side that are made: a second or less, and a share of a hundredth is met."""


def look_at_tasks(spec: RunSpec, made: Environment, tokenizer: Tokenizer) -> Iterator[Finding]:
    """Yield what is wrong with a run's tasks; `made` is its environment."""
    start, count = spec.held_out_start, min(spec.num_held_out, LOOKED_AT)
    sides = {
        "tasks": range(min(spec.num_tasks, LOOKED_AT)),
        "held-out problems": range(start, start + count),
    }
    problems = {side: [made.problem(index) for index in of] for side, of in sides.items()}
    for side, those in problems.items():
        if those:
            yield from _lengths(side, those, spec, tokenizer)
    yield from _answers(problems["tasks"], spec, made, tokenizer)


def _lengths(
    side: str, problems: Sequence[Problem], spec: RunSpec, tokenizer: Tokenizer
) -> Iterator[Finding]:
    encoded = [tokenizer.encode(problem.prompt).ids for problem in problems]
    lengths, most = [len(ids) for ids in encoded], spec.max_prompt_tokens
    num_long = sum(length > most for length in lengths)
    if num_long:
        is_fatal = num_long == len(lengths)
        yield Finding(
            f"{num_long} of {len(lengths)} {side} have prompts of more than max_prompt_tokens = {most} tokens and "
            f"are {'all there are' if is_fatal else 'passed over'}: set it to {max(lengths)} to have them",
            is_fatal=is_fatal,
        )
    if not all(lengths):
        yield Finding(
            f"{lengths.count(0)} of {len(lengths)} {side} have prompts of no token: the tokenizer knows no "
            "word of them; take the one that the model was trained with"
        )
    largest = max((max(ids) for ids in encoded if ids), default=0)
    if largest >= spec.vocabulary_size:
        yield Finding(
            f"{side} have prompts with token {largest}, the model {spec.vocabulary_size} tokens: take model "
            "and tokenizer that belong together"
        )


def _answers(
    problems: Sequence[Problem], spec: RunSpec, made: Environment, tokenizer: Tokenizer
) -> Iterator[Finding]:
    decoder = Decoder(tokenizer, spec.eos_token_ids)
    answers = [
        [*tokenizer.encode(p.solution, add_special_tokens=False).ids, spec.eos_token_ids[0]]
        for p in problems
    ]
    scores = [
        made.score(problem, decoder.text(ids))
        for problem, ids in zip(problems, answers, strict=True)
    ]
    num_wrong = sum(score != FULL_SCORE for score in scores)
    if num_wrong:
        yield Finding(
            f"{num_wrong} of {len(scores)} right answers do not score {FULL_SCORE} as this tokenizer writes them: "
            "take a tokenizer that knows the environment's characters",
            is_fatal=num_wrong == len(scores),
        )
    num_long = sum(len(ids) > spec.max_tokens for ids in answers)
    if num_long:
        yield Finding(
            f"{num_long} of {len(answers)} reference answers have more than max_tokens = {spec.max_tokens} tokens "
            f"(the longest {max(map(len, answers))}): completions that are cut before their answer earn nothing; "
            "raise max_tokens",
            is_fatal=False,
        )
