"""What must hold before training begins: the same bits in every life, and a model that can be computed here.

Architectures differ in what they hand to their attention. One that the packed forward does not know fails
somewhere within the library; here that is a line about the folder, before a step is made of it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from protocol.errors import Malformed
from protocol.user_error import UserError, one_line
from trainer.batch import BatchRollout, Group, Microbatch, pack

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")
"""NVIDIA's cuBLAS documentation, "Results Reproducibility"."""


class Untrainable(UserError, ValueError):
    """The model is of an architecture, or has weights, that the packed forward does not know."""


def compute_alike(threads: int) -> None:
    """Have torch give the same bits in every life of a process; call it before its first work on a GPU."""
    # cuBLAS gives them with a workspace of one of these forms only, and torch refuses products without.
    if os.environ.get(WORKSPACE) not in WORKSPACES:
        os.environ[WORKSPACE] = WORKSPACES[0]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


@contextmanager
def opening(model_dir: Path) -> Iterator[None]:
    """Turn what a folder makes the library raise into one line about that folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"model_dir = {model_dir} cannot be opened ({one_line(error)}): it needs config.json, "
            "tokenizer.json and one model.safetensors"
        ) from error
    except (ValueError, Malformed) as error:
        raise Untrainable(
            f"model_dir = {model_dir} cannot be trained: {one_line(error)}"
        ) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise Untrainable(
            f"model_dir = {model_dir} cannot be trained: the packed forward does not know its architecture "
            f"({one_line(error)}); Llama, Qwen, OLMo and their like are built as it needs"
        ) from error


def smallest(device: str) -> Microbatch:
    """Return a microbatch of two tokens: whether a forward pass takes it shows at once."""
    token = np.zeros(1, np.int64)
    completion = BatchRollout(token, np.zeros(1, np.float32), 0.0, False, 0)
    return pack(
        [Group(bytes(32), bytes(32), 0, token, (completion,), (0,))], max_tokens=2, device=device
    )[0]
