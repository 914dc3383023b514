"""Published bits become compute dtypes by one stated rule, and engines' own casts obey it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.manifest import HostTensor
from protocol.precision import ComputeDtype, cast

VECTORS = json.loads(Path("tests/vectors/precision.json").read_text())
_TORCH = {
    "float32": (torch.float32, torch.int32, np.uint32),
    "float16": (torch.float16, torch.int16, np.uint16),
    "bfloat16": (torch.bfloat16, torch.int16, np.uint16),
}


def tensor(dtype: str, *bits: int) -> HostTensor:
    return HostTensor(dtype, (len(bits),), np.array(bits, dtype=_TORCH[dtype][2]))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['from']}-{v['to']}-{v['why']}")
def test_bits_are_cast_as_the_vectors_say(vector: dict[str, str]) -> None:
    found = cast(tensor(vector["from"], int(vector["bits"], 16)), ComputeDtype(vector["to"]))
    assert f"{int(found.bits[0]):#0{2 * found.bits.itemsize + 2}x}" == vector["cast"]
    assert found.dtype == vector["to"]


@given(
    st.sampled_from(sorted(_TORCH)), st.sampled_from(list(ComputeDtype)), st.integers(0, 2**32 - 1)
)
def test_torch_casts_the_same_bits(source: str, target: ComputeDtype, bits: int) -> None:
    _, _, unsigned = _TORCH[source]
    host = tensor(source, bits % (1 << 8 * np.dtype(unsigned).itemsize))
    own = torch.from_numpy(host.bits.view(np.int32 if unsigned is np.uint32 else np.int16).copy())
    exact = own.view(_TORCH[source][0])
    expected = exact.to(_TORCH[target.value][0])
    if expected.isnan().all():
        return  # which NaN is nobody's promise
    if expected.isinf().all() and not exact.isinf().all():
        with pytest.raises(ValueError, match="does not fit"):
            cast(host, target)
        return
    found = cast(host, target).bits
    assert found.tobytes() == expected.view(_TORCH[target.value][1]).numpy().tobytes()


def test_a_weight_that_overflows_is_refused_with_its_value_and_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"70000 does not fit float16.*compute in bfloat16"):
        cast(tensor("float32", int(np.float32(70000).view(np.uint32))), ComputeDtype.FLOAT16)


def test_a_cast_to_the_own_dtype_is_the_tensor_itself() -> None:
    host = tensor("bfloat16", 0x3F81)
    assert cast(host, ComputeDtype.BFLOAT16) is host
