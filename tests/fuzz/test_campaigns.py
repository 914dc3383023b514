"""A minute's search of each decoder by coverage: what it finds is put into `crashes/` and mended."""

import subprocess

import pytest

from tests.fuzz import kept
from tests.fuzz.campaign import install, search

SECONDS = 60


@pytest.mark.slow
@pytest.mark.parametrize("name", kept.names())
def test_a_search_finds_nothing_that_breaks_a_decoder(name: str) -> None:
    try:
        install()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no build of atheris for this machine, or no way to it: {error}")
    crashes = search(name, SECONDS)
    assert not crashes, f"add to crashes/{name}.txt: {[data.hex() for data in crashes]}"
