"""The replay benchmark: its arithmetic, and the memory that blocks save, measured as it measures."""

import json
from pathlib import Path

import pytest

from benchmarks.replay import cost, draw, memory
from protocol.run import AuditPolicy


def test_a_replay_by_blocks_holds_a_small_part_of_what_the_plainest_does() -> None:
    blocks, plain = memory.measure(
        [memory.Asked(way, 30_000, num_tokens=400) for way in ("blocks", "materialised")]
    )
    materialised_mib = 4 * 30_000 * 400 / 2**20
    assert plain.grown_mib > 3 * materialised_mib  # logits, softmax and noise
    assert blocks.grown_mib < materialised_mib
    assert "| blocks | 30,000 | 400 | × 1 |" in memory.table([blocks])


def test_a_ratio_is_shown_as_a_share_of_generating() -> None:
    row = cost.Cost("start", "vllm", 64, 9_600, 10_000.0, 120_000.0, 1 / 12, 1 / 40)
    assert row.groups_per_second == 800
    assert cost.table([row]).endswith("| 120,000 | 800.0 | 1/12.0 |")


def test_a_draw_of_half_the_groups_costs_half_of_replaying_a_rollout_of_each() -> None:
    row = cost.Cost("start", "vllm", 64, 9_600, 10_000.0, 120_000.0, 1 / 12, 1 / 40)
    assert draw.per_paid_token(row, AuditPolicy(rate_millionths=500_000)) == 1 / 80
    table = draw.cost_table([row], AuditPolicy(rate_millionths=500_000))
    assert "50% (default) of groups" in table
    assert table.endswith("| 0.62% | 0.94% | 1.25% | 2.50% |")


def test_a_cheat_is_caught_where_one_of_its_drawn_rollouts_is() -> None:
    half = AuditPolicy(rate_millionths=500_000)
    assert draw.caught_within(1.0, half) == pytest.approx(1 - 2**-10)
    assert draw.caught_within(0.0, half) == 0
    assert draw.caught_within(0.5, half, num_groups=1) == 0.25
    for chance in (1.0, 0.6):
        least = draw.needed(chance)
        assert least is not None
        assert draw.caught_within(chance, least) == pytest.approx(draw.LEAST_CAUGHT, abs=1e-5)
    assert draw.needed(0.3) is None and draw.needed(0.0) is None


def test_the_worst_pair_of_engines_counts(tmp_path: Path) -> None:
    def row(attack: str, replayer: str, handed_in: float) -> dict[str, object]:
        seen = {"handed_in": handed_in, "prefilled": handed_in / 2}
        rates = {
            claims: {"rejected_rollouts": rate, "rejected_rollouts_differing": 1.0}
            for claims, rate in seen.items()
        }
        return {"attack": attack, "sampler": "vllm", "replayer": replayer, **rates}

    path = tmp_path / "attacks.json"
    rows = [row("honest", "vllm", 0.0), row("int8", "vllm", 1.0), row("int8", "transformers", 0.8)]
    path.write_text(json.dumps({"replay": rows}))
    seen = draw.read(path)
    assert [one.attack for one in seen] == ["int8", "int8"]
    table = draw.caught_table(seen, AuditPolicy(rate_millionths=500_000))
    assert table.endswith(
        "| int8 | 80.0% · 40.0% | 100.0% · 100.0% | 99.40% · 89.26% | 99.90% · 99.90% |"
    )
