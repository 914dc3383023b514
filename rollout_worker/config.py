"""What a worker or a verifier decides for itself: addresses, paths, sizes, prices.

Nothing here is agreed with anyone; the agreed terms of a run are its RunSpec. Keys are never in a
file. How a file and the command line become one of these is `rollcall/frame/settings.py`'s.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from client.retry import RetryConfig, Seconds
from ledger.setting import Amount
from local.settings import Settings
from protocol.wire import Address

Positive = Annotated[int, Field(ge=1, lt=1 << 63)]


class EngineConfig(Settings):
    """Which engine samples, and how large it may grow."""

    name: Literal["vllm", "transformers"] = "vllm"
    """`vllm` is the fast one; `transformers` runs wherever torch does."""
    device: str = "cpu"
    """`cpu` or `cuda`, as torch names it."""
    max_sequences: Positive = 128
    """Most rollouts sampled at once; fewer where `groups_per_call` groups have fewer."""
    kv_cache_mib: Positive = 256
    """vLLM's cache on a CPU; on a GPU it takes its own share."""
    quantise_bits: Annotated[int, Field(ge=0, le=8)] = 0
    """Attack tool: sample from weights rounded to this many bits. 0 is honest."""
    seed_shift: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Attack tool, and how an operator makes false groups to test verifiers with: sample from other seeds
    than the leased ones. 0 is honest."""


class ReplayConfig(Settings):
    """How a verifier replays."""

    engine: Literal["transformers", "vllm"] = "transformers"
    """What prefills. `transformers` runs wherever torch does; `vllm` is for verifiers of one run."""
    device: str = "cpu"
    """`cpu` or `cuda`, as torch names it."""
    tasks_per_call: Annotated[int, Field(ge=1, le=256)] = 32
    """Groups asked for, and replayed together where they share a policy."""
    most_seconds: Seconds = 120.0
    """Replays in hand that are not begun within this are undecided, and go to another verifier."""
    max_pass_tokens: Positive | None = None
    """Positions that `transformers` holds activations of at once; left out, 2,048 on a CPU and 32,768 on a
    GPU."""
    buffer_mib: Positive | None = None
    """Memory for logits and noise; left out, 16 for `transformers` on a CPU and 512 on a GPU, 64 for `vllm`."""
    max_sequences: Positive = 128
    """Rollouts that `vllm` prefills at once."""
    kv_cache_mib: Positive = 256
    """`vllm`'s cache on a CPU; on a GPU it takes its own share."""
    policies_kept: Positive = 12
    """Policy versions kept on the host, so that work sampled some steps ago costs no download."""


class ChainConfig(Settings):
    """Where the ledger is, and what this wallet does there."""

    rpc_url: str
    """JSON-RPC endpoint of a node; any EVM chain that carries the contracts."""
    max_gas_gwei: Annotated[float, Field(gt=0, le=1e12)] = 500.0
    """The most that is offered for a unit of gas, whatever the node says that it costs."""
    deployment: Path
    """JSON file with the contracts' addresses, as `rollcall launch` writes it."""
    stake: Amount = Decimal(0)
    """Tokens of stake to hold, such as 1.5; topped up to it when a run is joined."""
    payout: Address | Literal[""] = ""
    """Address that is paid; empty pays the registering account."""
    register_at_start: bool = True
    """Register, stake and join runs at start where that is missing. Off where a cold wallet did."""
    evidence_file: Path | None = None
    """Hex text that a run's gate asks for at joining, as its attester gave it; runs without a gate ignore it."""
    permit_seconds: Seconds = 2.0
    """How long a look at the run's permit on chain is believed: no lease is asked for without."""


class RoleConfig(Settings):
    """What both roles need to reach a market."""

    orchestrator: str
    """Base URL, such as `http://127.0.0.1:8000`."""
    data_dir: Path
    """Folder for the content cache, the model folder, receipts and totals. One process each."""
    chain: ChainConfig
    """The ledger."""
    runs: Literal["any"] | tuple[int, ...] = "any"
    """Run ids to serve, or `any`."""
    cache_bytes: Positive = 1 << 30
    """Disk that downloaded blobs may take."""
    poll_seconds: Seconds = 1.0
    """Pause between looks at a market that has no work."""
    tell_seconds: Seconds = 30.0
    """How often a line says what was done and earned, and what is waited for."""
    retry: RetryConfig = RetryConfig()
    """Back-off."""
    metrics_seconds: Seconds = 2.0
    """How often totals are written to `worker.json` or `verifier.json`, and a line to `metrics.jsonl`."""


class WorkerConfig(RoleConfig):
    """One worker process."""

    engine: EngineConfig = EngineConfig()
    """The engine."""
    groups_per_call: Annotated[int, Field(ge=1, le=1024)] = 16
    """Leases asked for and generated together; twice as many are held while the next ones wait."""
    token: Address | Literal[""] = ""
    """Payment token to work for; empty: the one that the ledger takes stakes in."""
    min_rate: Amount = Decimal(0)
    """Lowest price of a sampled token to work for, in that payment token, such as 0.000001."""
    prove_omissions: bool = True
    """Prove on chain, under a bond, that an epoch skipped this worker's receipted work. Needs gas and
    tokens; where either is missing it is logged."""
    most_unposted_groups: Positive = 4096
    """Groups that were taken and that no posted epoch has, beyond which no more are leased in that run."""
    appeals: bool = True
    """Replay work that this worker is accused for, and appeal on chain unless the replay agrees. Needs gas,
    no bond. An excluded worker stays until its accusations are decided."""
    books_seconds: Seconds = 5.0
    """How often pending epochs and accusations are looked at; must be well within the run's challenge
    window."""
    reconsider_seconds: Seconds = 30.0
    """How often to look for a run that pays more."""
    drain_seconds: Seconds = 20.0
    """After SIGTERM, how long to keep trying to deliver finished groups."""


class VerifierConfig(RoleConfig):
    """One verifier process."""

    replay: ReplayConfig = ReplayConfig()
    """The replay."""
    status_checks_per_epoch: Positive = 256
    """Contributions of an epoch whose lease, body and standing are checked before it is signed."""
    max_slash: Amount | None = None
    """Most tokens of stake to sign a fraud report for; left out, the run's minimum stake."""
