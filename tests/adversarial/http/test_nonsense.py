"""Nonsense on every route: each is refused with a code, and none is a defect of the server.

The test client raises what a server would answer with 500.
"""

import os
import signal
import subprocess
import sys

import pytest

from tests.stage.place import Place

ZERO = "0x" + "00" * 32
BODIES = {
    "nothing": b"",
    "deep lists": b"[" * 100_000,
    "deep maps": b'{"a":' * 50_000,
    "a huge integer": b'{"count":' + b"9" * 100_000 + b"}",
    "an infinite number": b'{"step":1e999}',
    "half a surrogate": b'{"message":"\\ud800","count":1}',
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "an unknown field": b'{"count":1,"rate":9}',
    "a wrong type": b'{"count":"1","lease_ids":{},"step":true,"message":[],"signed":1}',
}
POSTS = (
    *("runs/{run}/leases", "runs/{run}/leases/return", "runs/{run}/submissions"),
    *("runs/{run}/policies", "runs/{run}/batches", "runs/{run}/audits"),
    *(f"runs/{{run}}/audits/{ZERO}/verdict", f"runs/{{run}}/fraud-reports/{ZERO}"),
    *("runs/{run}/epochs/0/signatures", "session", "runs"),
)
PATHS = (
    *("blobs/..%2f..%2fetc%2fpasswd", "blobs/../../etc/passwd", "blobs/0x", "blobs/%00"),
    *(f"blobs/{ZERO}/..", f"blobs/{'0x' + 'g' * 64}", f"blobs/{ZERO}00", "blobs/" + "\u0660" * 66),
    *("runs/-1", "runs/1e3", f"runs/{1 << 63}", "runs/" + "9" * 5000, "runs/\u0661"),
    *("runs/{run}/epochs/-1", f"runs/{{run}}/epochs/{1 << 32}", "runs/{run}/epochs/4294967295"),
    *("runs/{run}/policies/-1", "runs/{run}/policies/%00", "runs/{run}/policies/" + "9" * 5000),
    *("runs/{run}/submissions/0x12", f"runs/{{run}}/submissions/{ZERO}"),
    *("workers/0x", "workers/" + "0x" + "zz" * 20, "workers/%f0%9f%92%a9"),
)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("name", ["alice", "v0", "trainer"])
def test_no_body_is_a_defect(shared_place: Place, path: str, name: str) -> None:
    party = shared_place.party(name)
    for what, body in BODIES.items():
        response = party.post("/v1/" + path.format(run=shared_place.run_id), body)
        assert 400 <= response.status_code < 500, what
        assert response.json()["code"], what


@pytest.mark.parametrize("path", PATHS)
def test_no_path_is_a_defect(shared_place: Place, path: str) -> None:
    response = shared_place.get("/v1/" + path.format(run=shared_place.run_id))
    assert 400 <= response.status_code < 500
    assert len(response.content) < 20_000


def test_strangers_upload_nothing(shared_place: Place) -> None:
    shared_place.wait(30)  # the nonsense before spent what an address may ask for
    for name in ("alice", "stranger"):
        response = shared_place.party(name).put(f"/v1/blobs/{ZERO}", b"spam")
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    response = shared_place.request("PUT", f"/v1/blobs/{ZERO}", b"spam")
    assert response.status_code == 401


NESTED = """
import base64, sys, threading
import orchestrator.main
from orchestrator.auth import _claims
from protocol.errors import MarketError
from rollcall.frame.roles import Role

TOKEN = base64.urlsafe_b64encode(b"[" * 90_000).decode() + ".e30.AAAA"

def ask():
    try:
        _claims(TOKEN, bytes(32))
    except MarketError as error:
        print(error.code)

def main(*_):
    threading.stack_size(1 << 20)
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

if sys.argv[1] == "role":
    Role("orchestrator", "orchestrator.config:OrchestratorConfig", "__main__:main").start(None, (), False)
else:
    main()
"""


@pytest.mark.parametrize("way", ["role", "bare"])
def test_a_token_of_nested_lists_does_not_end_the_process(way: str) -> None:
    """Its JSON is read before its signature is, and a library of ours lets Python nest until the C stack ends."""
    words = [sys.executable, "-c", NESTED, way]
    keyed = os.environ | {"ROLLCALL_KEY": "0x" + "11" * 32}
    done = subprocess.run(words, env=keyed, capture_output=True, text=True, check=False)
    if way == "bare":
        assert done.returncode == -signal.SIGSEGV, (
            "the attack succeeds where a role does not forbid it"
        )
    else:
        assert (done.returncode, done.stdout.strip()) == (0, "token_expired"), done.stderr
