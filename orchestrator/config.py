"""The orchestrator's local settings. Everything agreed with others is in `RunSpec` instead."""

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field

from client.retry import Seconds
from local.settings import Settings
from protocol.wire import Address

PASSWORD_VARIABLE = "ROLLCALL_REDIS_PASSWORD"


def _without_password(url: str) -> str:
    """Refuse a URL that holds a password: settings are printed and shown to others."""
    user = url.partition("://")[2].rpartition("@")[0]
    if ":" in user or "password" in parse_qs(urlsplit(url).query):
        raise ValueError(f"a password is read from {PASSWORD_VARIABLE}: take it out of the URL")
    return url


Rate = Annotated[float, Field(gt=0, le=1e12)]
Count = Annotated[int, Field(ge=1, lt=1 << 53)]
"""Redis's scripts have no larger numbers to the digit."""


class Limits(Settings):
    """What one stranger may ask, of all processes together unless it says otherwise."""

    requests_per_second: Rate = 100.0
    """Steady request rate of one signed-in account."""
    request_burst: Count = 400
    """Requests one account may make at once."""
    address_requests_per_second: Rate = 100.0
    """Steady rate of requests from one network address without a stake: a twentieth of what a core answers."""
    address_request_burst: Count = 2000
    """Requests without a stake that one network address may make at once."""
    max_json_bytes: Count = 1 << 24
    """Largest JSON body, a policy's manifest: 2.9 MiB for 32 billion weights, 5.9 for a mixture of as many.
    What others than trainers send has smaller limits of its own."""
    body_seconds: Seconds = 30.0
    """A request's body must be here within this: 8 MiB of a submission at 2.3 Mbit/s."""
    head_seconds: Seconds = 10.0
    """A request's head must be here within this, from when its connection is open and free."""
    read_seconds: Seconds = 30.0
    """A reader that takes no 64 KiB of its answer within this is lost."""
    max_connections: Count = 4096
    """Connections of this process, where it may open as many files; it asks for that at its start."""
    max_connections_per_address: Count = 1000
    """Connections that one network address may hold of one process; behind a proxy all have its address."""
    max_trainer_bytes_per_day: Count = 1 << 40
    """New blobs that a run's trainer may store in a day: a policy's parts, of every version."""
    max_unused_bytes: Count = 1 << 39
    """Blobs that a trainer may have stored in a month for no policy that it published: eight of its crashes
    between both, with 32 billion weights."""
    max_stored_bytes_per_day: Count = 1 << 42
    """New blobs of a day in all; beyond that each run has an equal part of as many."""
    max_event_streams: Count = 64
    """Event streams open at a time."""
    max_event_streams_per_address: Count = 16
    """Event streams that one network address may have open."""


class Rewards(Settings):
    """How the children that recompute rewards are bounded."""

    num_children: Annotated[int, Field(ge=1, le=64)] = 1
    """Scoring processes of each process that serves."""
    timeout_seconds: Seconds = 5.0
    """A child that has not answered by then is killed and its groups are tried once more."""
    memory_bytes: Count = 2 << 30
    """Address space of a child."""
    max_groups_per_call: Annotated[int, Field(ge=1)] = 64
    """Groups sent to a child at a time; more amortises the pipe, fewer shares a hang with fewer."""


class Canaries(Settings):
    """Workers of the operator's own by which verifiers are tested. They join and stake like any other and
    must leave `prove_omissions` off: their groups are not paid."""

    honest: tuple[Address, ...] = ()
    """Workers whose every group is honest: `rollcall join` as it is."""
    false: tuple[Address, ...] = ()
    """Workers whose every group is false: `rollcall join --set engine.seed_shift=1` (for a policy that is
    sure of every token see `orchestrator/README.md`)."""
    share: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Canaries among a verifier's tasks. With as many honest as false ones, whoever accepts everything
    fails one within 182 tasks with a probability of 99 %."""
    open_seconds: Count = 21_600
    """A canary worker is named in public this long after its commitment, and leases no more."""
    answer_seconds: Count = 600
    """Verifiers that have not answered a canary by then are not asked any more."""


class OrchestratorConfig(Settings):
    """Settings of one `rollcall serve`."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Port to listen on."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that share the port, each a whole orchestrator with scoring children of its own."""
    redis_url: Annotated[str, AfterValidator(_without_password)] = "redis://127.0.0.1:6379/0"
    """Queues and leases; `rediss://user@host:6379/0?ssl_ca_certs=/path/ca.pem` and `unix:///path?db=0` work
    too. Its password is read from ROLLCALL_REDIS_PASSWORD. Durability is this server's setting; it is in no
    cluster, and evicts nothing."""
    blob_url: str = "file:///tmp/rollcall/blobs"
    """Payloads: a folder (`file:///…`, made where missing), or `s3://bucket/prefix`."""
    rpc_url: str = "http://127.0.0.1:8545"
    """The chain's JSON-RPC endpoint."""
    max_gas_gwei: Rate = 500.0
    """The most that is offered for a unit of gas, whatever the node says that it costs."""
    deployment: str = "deployment.json"
    """JSON file with the contracts' addresses, as `rollcall launch` writes it."""
    allowed_domains: tuple[str, ...] = ()
    """Domains a sign-in text may name, such as "market.example", or "market.example:8443" for one of its ports
    only; empty: the request's own Host header, taken from this machine alone."""
    session_seconds: Count = 3600
    """Lifetime of a bearer token."""
    chain_poll_seconds: Seconds = 1.0
    """How often the runs' state on chain is read."""
    tick_seconds: Seconds = 0.5
    """Pause between rounds of the background work: expiry, settlement, slashing."""
    renew_permits: bool = True
    """Renew a run's permit on chain when less than half of it is left, as its operator's hot key. Off
    where the operator renews it by hand: then its silence ends the run."""
    watch_postings: bool = True
    """Prove false what others post for the runs served here, and answer demands about their epochs. Off
    where a `rollcall watch` of its own does."""
    watch_folder: str = ""
    """Where the watcher of postings keeps the events and files it has read; empty for a temporary folder:
    then the chain is read from the deployment on at every start."""
    lease_grace_seconds: Seconds = 5.0
    """A lease's place is freed this long after its deadline: a body being read still counts."""
    audit_seconds: Seconds = 30.0
    """A replay not answered within this goes to another verifier."""
    retry_after_seconds: Seconds = 0.25
    """What to tell a worker or trainer for whom there is nothing yet."""
    canaries: Canaries = Canaries()
    """Groups of known quality in the verifiers' queues; none where no worker is named."""
    limits: Limits = Limits()
    rewards: Rewards = Rewards()

    def part(self, most: int) -> int:
        """Return how much of a limit one process may give away: none knows what the others have given."""
        return max(1, most // self.processes)
