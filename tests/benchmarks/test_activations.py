"""The benchmark of activation commitments runs, and its figures are of what it says."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import activations


def test_the_table_tells_exact_from_four_bit_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "activations.json"
    options = ["--groups", "12", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["activations", *options])
    activations.main()
    found = json.loads(out.read_text())
    worst = {
        weights: [line["mean_max"] for line in found["deviations"] if line["weights"] == weights]
        for weights in ("exact", "int4")
    }
    assert max(worst["exact"]) < 5 < max(worst["int4"])
    assert 258 / 32 <= found["bytes_per_token"] < 40
