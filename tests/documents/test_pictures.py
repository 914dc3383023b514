"""The README's picture is what its script draws."""

import runpy

from tests.documents.lines import ROOT


def test_the_picture_of_the_system_is_as_its_script_draws_it() -> None:
    drawn = runpy.run_path(str(ROOT / "docs/draw_system.py"))["drawn"]()
    assert drawn == (ROOT / "docs/system.svg").read_text("utf-8"), "python docs/draw_system.py"
