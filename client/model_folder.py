"""Look at a model folder before anything depends on it: its files are there, and none is cut short or a pointer."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from protocol.user_error import UserError, one_line

FILES = ("config.json", "tokenizer.json", "model.safetensors")


def require_model(folder: Path) -> None:
    """Raise `UserError` naming the file that is missing or damaged; of the weights only the header is read."""
    if lacking := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(f"{folder} is no model folder: it has no {' and no '.join(lacking)}")
    for name in FILES:
        try:
            _open(folder / name)
        except (SafetensorError, ValueError, OSError) as error:
            raise UserError(
                f"{folder / name} is damaged ({one_line(error)}): fetch it whole, with `git lfs pull` if it is a pointer"
            ) from error


def _open(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    else:
        with safe_open(path, "numpy"):
            pass
