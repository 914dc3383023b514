"""While a role opens its doors Ctrl-C ends it at once, also where a peer takes a question and never answers."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from structlog.testing import capture_logs

from orchestrator.listening import tell_listening
from rollcall.frame.ending import Ending
from tests.stage.ground import Ground
from tests.stage.place import Place
from tests.stage.waiting import started


def test_ctrl_c_does_not_wait_for_a_chain_that_is_silent(ground: Ground, tmp_path: Path) -> None:
    ground.deployment.save(tmp_path / "deployment.json")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings = {
            "port": "0",
            "rpc_url": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "deployment": str(tmp_path / "deployment.json"),
            "blob_url": f"file://{tmp_path}/blobs",
        }
        words = [f"--set={key}={value}" for key, value in settings.items()]
        env = {**os.environ, "ROLLCALL_KEY": "0x" + ground.people["operator"].key.hex()}
        argv = [sys.executable, "-m", "rollcall", "serve", *words]
        with started(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as serve:
            peer, _ = silent.accept()
            assert peer.recv(4096).startswith(b"POST"), "it asks, and waits for an answer"
            serve.send_signal(signal.SIGINT)
            # The transport alone would wait for ten seconds, and five times.
            assert serve.wait(timeout=8) == Ending.STOPPED
            peer.close()


def test_a_port_that_the_system_chose_is_said(shared_place: Place) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with capture_logs() as said:
            shared_place.call(tell_listening, "127.0.0.1", listener, shared_place.services)
        [line] = [entry for entry in said if entry["event"] == "listening"]
        assert line["at"] == f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert listener.getsockname()[1] > 0
