"""Own the policy's numerics: float32 masters, a compute copy with the published bits, packed forward.

The compute copy holds exactly the weights that workers sample with (masters rounded to the published
dtype, then cast to the run's), so that log-probabilities differ from theirs by the engine's arithmetic
alone; its gradients are applied to the masters, straight through the rounding. The logits head computes
in float32, and so does everything on a CPU.
The architecture comes from transformers; the prompt-sharing attention enters through its attention
interface. Left out: sharding over devices, sharded checkpoint files, windows shorter than a rollout.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from client.model_folder import read_policy
from protocol.policies.manifest import Bits, HostTensor, Weights
from protocol.precision import ComputeDtype, cast_all
from trainer.batch import Microbatch
from trainer.opening import opening, probe, require_exact

SHARED_PROMPT = "rollcall_shared_prompt"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Policy:
    """A causal language model under training. `masters` are the parameters that AdamW moves."""

    def __init__(self, model: Any, weights: Weights, *, temperature: float, chunk: int) -> None:
        self._model = model
        self._dtypes = {name: weights[name].dtype for name in weights}
        self._shapes = {name: weights[name].shape for name in weights}
        self._copy: dict[str, nn.Parameter] = dict(model.named_parameters())
        self._temperature = temperature
        self._chunk = chunk
        if self._copy.keys() != weights.keys():
            odd = sorted(self._copy.keys() ^ weights.keys())
            raise ValueError(f"the weights are not this architecture's: {odd[:3]} on one side only")
        self.masters = {
            name: nn.Parameter(_tensor(weights[name]).float().to(parameter.device))
            for name, parameter in self._copy.items()
        }
        self.refresh()

    @property
    def device(self) -> torch.device:
        return next(iter(self._copy.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """The compute copy's dtype."""
        return next(iter(self._copy.values())).dtype

    def refresh(self) -> None:
        """Set the compute copy to the masters as they will be published."""
        with torch.no_grad():
            for name, parameter in self._copy.items():
                parameter.copy_(self.masters[name].to(DTYPES[self._dtypes[name]]))
        if any(overflows(parameter) for parameter in self._copy.values()):
            cast_all(self.host_weights(), ComputeDtype.FLOAT16)  # raises, with the weight

    @contextmanager
    def holding(self, weights: Weights) -> Iterator[None]:
        """Compute with another version's published weights inside a `with`; masters stay as they are."""
        if weights.keys() != self._copy.keys():
            raise ValueError("these weights have other tensors than this model")
        try:
            load(self._model, weights)
            yield
        finally:
            self.refresh()

    def set_masters(self, masters: Mapping[str, Tensor]) -> None:
        """Take the float32 masters of a checkpoint."""
        if masters.keys() != self.masters.keys():
            raise ValueError("the checkpoint has other tensors than this model")
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(masters[name])
        self.refresh()

    def collect_gradients(self) -> None:
        """Add the compute copy's gradients to the masters', in float32, and clear them."""
        for name, parameter in self._copy.items():
            if parameter.grad is None:
                continue
            master = self.masters[name]
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def logprobs(self, microbatch: Microbatch) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies (no gradient) of the completion tokens N."""
        hidden_TC = self._hidden(microbatch)
        source_NC = hidden_TC.index_select(0, microbatch.source_N)
        head = self._model.get_output_embeddings().weight
        parts = [
            checkpoint(_head, rows, head, targets, self._temperature, use_reentrant=False)
            if len(source_NC) > self._chunk
            else _head(rows, head, targets, self._temperature)
            for rows, targets in zip(
                source_NC.split(self._chunk), microbatch.targets_N.split(self._chunk), strict=True
            )
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def host_weights(self) -> dict[str, HostTensor]:
        """Return the published bit patterns of the masters."""
        weights = {}
        for name, master in self.masters.items():
            dtype = self._dtypes[name]
            published = master.detach().to(DTYPES[dtype]).cpu().contiguous().view(-1)
            weights[name] = HostTensor(dtype, self._shapes[name], _bits(published))
        return weights

    def _hidden(self, microbatch: Microbatch) -> Tensor:
        output = self._model.model(
            input_ids=microbatch.tokens_T[None],
            position_ids=microbatch.positions_T[None],
            # A mapping is taken as prepared masks; the grids carry their own.
            attention_mask={"full_attention": None, "sliding_attention": None},
            use_cache=False,
            microbatch=microbatch,
        )
        return output.last_hidden_state[0]


def open_policy(
    model_dir: Path,
    *,
    device: str,
    compute_dtype: ComputeDtype,
    temperature: float,
    logits_chunk: int,
) -> tuple[Policy, dict[str, HostTensor]]:
    """Read a model folder; return the policy and its weights as they are in the file."""
    with opening(model_dir):
        weights = read_policy(model_dir)
        ALL_ATTENTION_FUNCTIONS.register(SHARED_PROMPT, _shared_prompt_attention)
        model = open_model(
            model_dir, device=device, compute_dtype=compute_dtype, attention=SHARED_PROMPT
        )
        policy = Policy(model, weights, temperature=temperature, chunk=logits_chunk)
        for state in (nullcontext(), policy.holding(weights)):
            with torch.no_grad(), state:
                text = probe(model.config.vocab_size, device)
                require_exact(policy.logprobs(text)[0], model, text, temperature=temperature)
    return policy, weights


def open_model(
    model_dir: Path, *, device: str, compute_dtype: ComputeDtype, attention: str = "sdpa"
) -> Any:
    """Make the folder's architecture in this device's dtype, with no weights set."""
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
    model = AutoModelForCausalLM.from_config(
        config, dtype=DTYPES[dtype_on(device, compute_dtype)], attn_implementation=attention
    )
    return model.to(device).eval()  # eval: no dropout; gradients flow all the same


def dtype_on(device: str, compute_dtype: ComputeDtype) -> ComputeDtype:
    """Return a device's dtype: float32 on a CPU, elsewhere the one that the run agreed on.

    Ratios need the sampling policy's log-probabilities, not a worker's rounding of them, and a CPU without
    bfloat16 instructions takes up to five times as long in it.
    """
    return ComputeDtype.FLOAT32 if torch.device(device).type == "cpu" else compute_dtype


def load(model: Any, weights: Weights) -> None:
    """Set a model to published weights; raise `ValueError` if one does not fit its dtype."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_tensor(weights[name]))
            if overflows(parameter):
                cast_all({name: weights[name]}, ComputeDtype.FLOAT16)  # raises, with the weight


def overflows(parameter: Tensor) -> bool:
    """Return whether a cast to float16 left an infinity; wider exponents have room for every weight."""
    return parameter.dtype is torch.float16 and bool(parameter.isinf().any())


def _shared_prompt_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    microbatch: Microbatch,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each grid: prompts causally, completions to their prompt and themselves.

    In: heads × packed tokens. Out: (1, T, heads, head size), as the interface wants it.
    """
    del module, attention_mask
    query_THE, key_THE, value_THE = (x[0].transpose(0, 1) for x in (query, key, value))
    outputs = []
    for grid in microbatch.grids:
        attended_DHQE = scaled_dot_product_attention(
            query_THE[grid.query_DQ].transpose(1, 2),
            key_THE[grid.key_DK].transpose(1, 2),
            value_THE[grid.key_DK].transpose(1, 2),
            attn_mask=grid.mask_DQK[:, None],
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(attended_DHQE.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[microbatch.back_T][None], None


def _head(
    hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits_NV = linear(hidden_NC.float(), weight_VC.float()) / temperature
    log_total_N = torch.logsumexp(logits_NV, dim=-1)
    logprobs_N = logits_NV.gather(1, targets_N[:, None])[:, 0] - log_total_N
    with torch.no_grad():
        probability_NV = torch.exp(logits_NV - log_total_N[:, None])
        # A token that cannot be drawn may have a logit of −inf, and 0 × inf is no number.
        share_NV = torch.where(probability_NV > 0, probability_NV * logits_NV, 0.0)
        entropy_N = log_total_N - share_NV.sum(-1)
    return logprobs_N, entropy_N


def _bits(published_N: Tensor) -> Bits:
    if published_N.dtype == torch.float32:
        return published_N.view(torch.int32).numpy().view(np.uint32).copy()
    return published_N.view(torch.int16).numpy().view(np.uint16).copy()


def _tensor(host: HostTensor) -> Tensor:
    signed = host.bits.view(np.int32 if host.dtype == "float32" else np.int16).copy()
    return torch.from_numpy(signed).view(DTYPES[host.dtype]).view(host.shape)
