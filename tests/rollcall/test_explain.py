"""A verdict beside a replay: reproduced, contradicted, or not to be judged by one group."""

from dataclasses import replace

import numpy as np
import pytest

from protocol.activation_policy import ActivationPolicy
from protocol.activations import Deviation
from protocol.signing import Domain, address_of, sign
from protocol.verdict import Mismatch, Outcome, Verdict
from rollcall.commands.explaining import digest_of_work
from rollcall.explain import Judgement, compare, conclude
from rollcall.user_error import UserError
from rollout_worker.replay import Findings, stats_of
from tests.adversarial.sampling_lab import lab
from tests.rollout_worker.live import key_of

DOMAIN = Domain(31337, "0x" + "11" * 20)
KEY, HOT = key_of("a verifier"), key_of("its hot key")
FINDINGS = [
    Findings(
        claimed=np.array([5, 6, 7], dtype=np.uint32),
        expected=np.array([5, 9, 7], dtype=np.uint32),
        margins=np.array([0.0, 0.7, 0.0]),
        gaps=np.array([0.0, 0.1, 0.0]),
    )
]
WRONG = Mismatch(rollout=0, position=1, expected=9, claimed=6, margin_micronats=700_000)


def verdict(outcome: Outcome, *, key: bytes = KEY, **changes: object) -> Verdict:
    fields: dict[str, object] = {
        "run_id": 1,
        "work_digest": bytes(32),
        "verifier": address_of(KEY),
        "outcome": outcome,
        "rejection": "replay_mismatch" if outcome is Outcome.REJECTED else "",
        "detail": "",
        "stats": stats_of(FINDINGS),
        "mismatches": (WRONG,) if outcome is Outcome.REJECTED else (),
        "decided_at": 1,
        "signature": bytes(65),
    }
    unsigned = Verdict.model_validate(fields | changes)
    return unsigned.model_copy(update={"signature": sign(key, DOMAIN.digest(unsigned))})


def compared(found: Verdict, outcome: Outcome = Outcome.REJECTED, **how: object) -> Judgement:
    rejection = "replay_mismatch" if outcome is Outcome.REJECTED else ""
    options = {"domain": DOMAIN, "spoke_for": None} | how
    return compare(found, outcome, rejection, FINDINGS, **options)  # type: ignore[arg-type]


def test_a_verdict_is_reproduced_where_outcome_signature_and_positions_are() -> None:
    judgement = compared(verdict(Outcome.REJECTED))
    assert (judgement.is_reproduced, judgement.num_expected) == (True, 1)
    assert compared(verdict(Outcome.ACCEPTED), Outcome.ACCEPTED).is_reproduced


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (verdict(Outcome.ACCEPTED), "this replay finds it rejected"),
        (
            verdict(Outcome.REJECTED, mismatches=(WRONG.model_copy(update={"claimed": 8}),)),
            "names token 8 at rollout 0, position 1",
        ),
        (
            verdict(Outcome.REJECTED, mismatches=(WRONG.model_copy(update={"position": 3}),)),
            "which the work has not",
        ),
        (
            verdict(Outcome.REJECTED).model_copy(update={"detail": "added afterwards"}),
            "signed by 0x",
        ),
    ],
)
def test_a_verdict_that_does_not_follow_is_contradicted(found: Verdict, said: str) -> None:
    judgement = compared(found)
    assert judgement.is_reproduced is False
    assert said in judgement.remark


def test_a_hot_key_s_verdict_counts_where_the_registry_knows_it() -> None:
    hot = verdict(Outcome.REJECTED, key=HOT)
    assert "give --rpc" in compared(hot).remark
    assert compared(hot, spoke_for=lambda *_: True).is_reproduced
    assert compared(hot, spoke_for=lambda *_: False).is_reproduced is False


def test_what_one_group_cannot_show_is_left_open() -> None:
    drift = verdict(Outcome.REJECTED, rejection="replay_drift", mismatches=())
    assert compared(drift, Outcome.ACCEPTED).is_reproduced is None
    assert compared(verdict(Outcome.UNDECIDED, detail="no weights")).is_reproduced is None


def test_commitments_outside_the_runs_bounds_condemn_as_a_verifier_would() -> None:
    honest = replace(FINDINGS[0], deviations=(Deviation(0, 0.0, 0.0),))
    forged = replace(FINDINGS[0], deviations=(Deviation(39, 0.0, 0.0),))
    wide = lab().thresholds
    stats = stats_of([]).model_copy(update={"num_tokens": 3, "num_matched": 3})

    def found(*group: Findings, policy: ActivationPolicy | None) -> str:
        return conclude(stats, wide, found=group, policy=policy)[1]

    assert found(forged, policy=None) == ""
    assert found(honest, policy=ActivationPolicy()) == ""
    assert found(honest, forged, policy=ActivationPolicy()) == "replay_activations"
    verdict_of_it = verdict(Outcome.REJECTED, rejection="replay_activations", mismatches=())
    assert compared(verdict_of_it).is_reproduced
    assert compared(verdict_of_it, Outcome.ACCEPTED).is_reproduced is False


def test_a_digest_is_thirty_two_bytes_in_hex() -> None:
    assert digest_of_work("0x" + "ab" * 32) == b"\xab" * 32
    for text in ("0x12", "0x" + "zz" * 32, ""):
        with pytest.raises(UserError, match="is no digest"):
            digest_of_work(text)
