"""What the trainer's tests share."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stage.training import Opening, Training, training


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Compute on one thread, the same bits each time."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def opening(redis_url: str, tmp_path: Path) -> Opening:
    numbers = count()

    def opened(num_steps: int, **changes: Any) -> AbstractContextManager[Training]:
        folder = tmp_path / f"blobs {next(numbers)}"
        return training(redis_url, folder, num_steps, **changes)

    return opened
