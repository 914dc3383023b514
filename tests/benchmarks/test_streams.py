"""Agreement of two sides whose logits differ: the benchmark of `benchmarks/attacks/streams.py`."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.attacks import streams


def test_rounding_moves_the_inverse_of_the_cdf_more_than_the_gumbel_race(tmp_path: Path) -> None:
    out = tmp_path / "streams.json"
    streams.main(["--tokens", "100", "--out", str(out)])
    cells = json.loads(out.read_text())
    assert len(cells) == len(streams.NOISE) * len(streams.TAILS)
    for cell in cells:
        assert cell["gumbel"] > cell["inverse_cdf"] + 0.02
        assert cell["gumbel"] > 0.85


def test_without_noise_both_sides_agree_and_tails_have_their_share() -> None:
    exact = streams.distribution(np.random.default_rng(0), 0.1, 3)
    assert np.exp(exact).sum(axis=1) == pytest.approx(1.0)
    top = np.sort(np.exp(exact), axis=1)[:, -streams.NUM_HEAD :].sum(axis=1)
    assert top == pytest.approx(0.9)
    agreed = streams.agreement(exact, np.zeros_like(exact), np.arange(3))
    assert (agreed == 3).all()
