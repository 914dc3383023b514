"""A causal language model in torch: its weights from bit patterns, hidden states, logits.

Shared by the transformers engine, which decodes with it, and by replay, which prefills. Owns how a
policy's bits become parameters. Left out: sampling and batching.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from client.model_folder import read_policy
from protocol.policies.manifest import HostTensor, Weights
from protocol.policies.patch import from_anchor
from protocol.precision import ComputeDtype, cast_all
from rollout_worker.engines.fit import require_same_model

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class CausalModel:
    """A decoder whose logits are its output embedding of its last hidden states.

    It computes in `dtype`, which is the run's; weights are cast to it as `protocol.precision` says.
    """

    def __init__(
        self, model_dir: Path, *, device: str, dtype: ComputeDtype = ComputeDtype.FLOAT32
    ) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(
            model_dir,
            dtype=DTYPES[dtype],
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,  # left out, it asks whoever sits there
        )
        self.dtype = dtype
        self.cache_type: type[DynamicCache] = DynamicCache
        model.requires_grad_(False).eval().to(device)
        self.whole: Any = model
        self.device = torch.device(device)
        self.config: Any = model.config
        self.decoder: Any = model.get_decoder()
        self._head: Any = model.get_output_embeddings()
        self._parameters: dict[str, Tensor] = dict(model.named_parameters())

    def new_cache(self) -> Any:
        """Return an empty cache of keys and values, of the kind in `cache_type`."""
        return self.cache_type(config=self.config)

    @property
    def vocabulary_size(self) -> int:
        return int(self._head.weight.shape[0])

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return the logits in float32, of the precision that the head computes in."""
        logits_NV: Tensor = self._head(hidden_ND).float()
        return logits_NV

    def logits_among(self, hidden_ND: Tensor, tokens: slice) -> Tensor:
        """Return the logits of a slice of token ids alone, as the head computes them."""
        bias = getattr(self._head, "bias", None)
        logits_NV: Tensor = torch.nn.functional.linear(
            hidden_ND, self._head.weight[tokens], None if bias is None else bias[tokens]
        )
        return logits_NV

    def load(self, weights: Weights) -> None:
        """Replace every parameter in place; refuse a policy that is not exactly this model's."""
        require_same_model(weights, {n: tuple(p.shape) for n, p in self._parameters.items()})
        loaded = cast_all(weights, self.dtype)
        for name, tensor in loaded.items():
            self._parameters[name].copy_(tensor_of(tensor))


def tensor_of(host: HostTensor) -> Tensor:
    """Copy a bit pattern into a tensor on the CPU."""
    signed = host.bits.copy().view("<i2" if host.bits.itemsize == 2 else "<i4")
    return torch.from_numpy(signed).view(DTYPES[host.dtype]).reshape(host.shape)


def host_tensor_of(tensor: Tensor) -> HostTensor:
    """Copy a tensor's bits out of torch."""
    dtype = next(name for name, known in DTYPES.items() if known == tensor.dtype)
    wide = tensor.dtype == torch.float32
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    bits = flat.view(torch.int32 if wide else torch.int16).numpy().view("<u4" if wide else "<u2")
    return HostTensor(dtype=dtype, shape=tuple(tensor.shape), bits=bits.copy())


def read_weights(path: Path) -> dict[str, HostTensor]:
    """Read the policy of a model folder, or a safetensors file of nothing but a policy."""
    return read_policy(path) if path.is_dir() else from_anchor(path.read_bytes())
