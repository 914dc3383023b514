"""What `python -m devchain` is given wrongly is one line, and leaves no folder that cannot be used."""

import sys
from pathlib import Path

import pytest

from devchain.__main__ import main


@pytest.mark.parametrize("address", ["0x12", "alice", "0x" + "g" * 40, ""])
def test_an_address_that_is_none_is_refused_before_a_chain_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    state = tmp_path / "chain"
    words = ["devchain", "--port", "0", "--state", str(state), "--fund", address]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match=r"is not an address: 0x and 40 hex digits"):
        main()
    assert not state.exists()
