"""The page at `/`: sealed in one file, for anybody's browser, and true to what the routes say.

What a browser makes of it is looked at where there is one: set ROLLCALL_BROWSER to a Chromium, or have it on the path.
"""

import os
import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from orchestrator.routes.page import PAGE
from protocol.verdict import Rejection
from tests.adversarial.http.test_exhaustion import serving
from tests.stage.ground import Ground
from tests.stage.place import Place, opened

NAMES = ("chromium-headless-shell", "chromium", "google-chrome")
BROWSER = os.environ.get("ROLLCALL_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><b id=hostile>"


def test_a_person_needs_no_key_and_no_internet(shared_place: Place) -> None:
    for path in ("/", "/docs"):
        found = shared_place.get(path)
        assert (found.status_code, found.text) == (200, PAGE)
        assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.findall(r"https?://|//\w+\.|\bsrc=|@import|url\(", PAGE), "nothing is elsewhere"
    for path in re.findall(r'href="([^"]+)"', PAGE):
        assert shared_place.get(f"/{path}").status_code == 200, path


def test_its_policy_lets_nothing_run_but_the_page_itself(shared_place: Place) -> None:
    rules = dict(
        rule.split(" ", 1)
        for rule in shared_place.get("/").headers["content-security-policy"].split("; ")
    )
    for element in ("script", "style"):
        [text] = re.findall(f"<{element}>(.*?)</{element}>", PAGE, re.DOTALL)
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert rules.pop(f"{element}-src") == f"'sha256-{digest}'"
    assert rules.pop("connect-src") == "'self'"
    assert set(rules.values()) == {"'none'"}
    assert "default-src" in rules
    markup = r"\bon\w+=|style=|innerHTML|outerHTML|insertAdjacent|document\.write|eval\("
    assert not re.findall(markup, PAGE), "and nothing of it makes markup of text"


def test_every_reason_is_said_in_words() -> None:
    [reasons] = re.findall(r"const REASONS = \{(.*?)\};", PAGE, re.DOTALL)
    assert set(re.findall(r"(\w+): (?:\"|REPLAYED)", reasons)) == set(Rejection)


def test_every_route_says_in_words_what_it_is_for(shared_place: Place) -> None:
    described = shared_place.get("/openapi.json").json()["paths"]
    for path, methods in described.items():
        for operation in methods.values():
            name = operation["operationId"].replace("_", " ")
            assert operation["summary"].lower() != name, path
            assert operation["summary"].count(" ") >= 2, path


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: set ROLLCALL_BROWSER to one")
def test_a_browser_shows_runs_a_worker_and_a_strangers_words_as_text(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "a", name=HOSTILE, num_held_out=0) as place:
        alice = place.party("alice")
        alice.deliver(alice.leases()[0].lease)
        with serving(ground, redis_url, tmp_path / "a" / "blobs") as port:
            site = f"http://127.0.0.1:{port}"
            shown = dom(f"{site}/docs#{alice.address}")
            elsewhere = dom(f"{site}/#nobody")
    text = re.sub(r"<script>.*?</script>", "", shown, flags=re.DOTALL)
    assert "<title>Rollcall</title>" in text
    assert "id=hostile" not in text.replace("&lt;b id=hostile&gt;", "")
    assert "&lt;img src=x" in text
    for words in (
        f"Run {place.run_id}: ",
        "1 must agree",
        "policy 0, ",
        f"rollcall doctor --calibrate --orchestrator {site}\n",
        "1 group: ",
        "Up to `count` signed leases; 204 while work is paced.",
    ):
        assert words in text, words
    assert "nobody" in elsewhere.partition('id="worker"')[2].partition("<details")[0]


def dom(url: str) -> str:
    """Return what a browser made of a page once its answers were in."""
    assert BROWSER is not None
    words = ("--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom", url)
    return subprocess.run(
        [BROWSER, "--headless", *words], capture_output=True, check=True, text=True, timeout=300
    ).stdout
