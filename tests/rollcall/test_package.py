"""What is installed without the checkout is all that the roles read at run time."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_scripts_and_artifacts(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = "pip wheel -q --no-deps --no-build-isolation --no-index -w wheels ."
    subprocess.run([sys.executable, "-m", *command.split()], cwd=copy, check=True)
    [wheel] = (copy / "wheels").glob("rollcall-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        *(str(path.relative_to(ROOT)) for path in (ROOT / "orchestrator/store/lua").glob("*.lua")),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "contracts/artifacts").glob("*.json")),
        "devchain/chain.py",
        "orchestrator/routes/page.html",
        "protocol/environments/arithmetic.py",
        "rollout_worker/engines/vllm.py",
    }
    assert needed - held == set()
    assert not any(name.startswith(("tests/", "models/")) for name in held)
