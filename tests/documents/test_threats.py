"""The page of threats names every attack that a test runs, and no test that is not there."""

import re

from tests.documents.lines import ROOT

PAGE = (ROOT / "docs" / "threats.md").read_text("utf-8")
ATTACKS = ROOT / "tests" / "adversarial"


def test_every_attack_is_named_and_every_name_is_a_test() -> None:
    named = set(
        re.findall(
            r"`((?:tests|sampling|submission|ledger|market|http|verifier|watch|policy|secrets)/[\w/]+\.py)`",
            PAGE,
        )
    )
    for name in named:
        assert (ROOT if name.startswith("tests/") else ATTACKS).joinpath(name).is_file(), name
    attacks = {str(path.relative_to(ATTACKS)) for path in ATTACKS.glob("*/test_*.py")}
    assert attacks <= named, f"not in docs/threats.md: {sorted(attacks - named)}"
