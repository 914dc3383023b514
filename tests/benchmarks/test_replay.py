"""The replay benchmark: its arithmetic, and the memory that blocks save, measured as it measures."""

from benchmarks.replay import cost, memory


def test_a_replay_by_blocks_holds_a_small_part_of_what_the_plainest_does() -> None:
    blocks, plain = memory.measure(
        [memory.Asked(way, 30_000, num_tokens=400) for way in ("blocks", "materialised")]
    )
    materialised_mib = 4 * 30_000 * 400 / 2**20
    assert plain.grown_mib > 3 * materialised_mib  # logits, softmax and noise
    assert blocks.grown_mib < materialised_mib
    assert "| blocks | 30,000 | 400 | × 1 |" in memory.table([blocks])


def test_a_ratio_is_shown_as_a_share_of_generating() -> None:
    row = cost.Cost("start", "vllm", 64, 9_600, 10_000.0, 120_000.0, 1 / 12)
    assert row.groups_per_second == 800
    assert cost.table([row]).endswith("| 120,000 | 800.0 | 1/12.0 |")
