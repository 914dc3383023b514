"""Look at an orchestrator before anything depends on it: who answers there, and which runs it serves."""

from client.connection import Answer, Connection
from client.public import Reader
from client.retry import Patience, RetryConfig, Unreachable
from protocol.errors import Busy, Malformed, MarketError
from protocol.messages import RunInfo


def look(url: str) -> tuple[RunInfo, ...]:
    """Return the runs served at an address; raise `Unreachable` with the remedy where no orchestrator answers.

    Example: look("http://127.0.0.1:8545")  # Unreachable: what answers at … is no orchestrator (HTTP 501 …)
    """
    with Reader(url) as reader:
        try:
            return reader.runs()
        except Busy:
            raise
        except (Malformed, MarketError) as error:
            raise Unreachable(
                f"what answers at {reader.url} is no orchestrator ({error.message.partition(' from ')[0][:80]}): check host and port"
            ) from error


def probe(url: str, *, timeout_seconds: float = 5.0) -> Answer:
    """Ask once for a page of the server's own, such as …/readyz; raise `Unreachable` or its refusal."""
    base, _, page = url.rpartition("/")
    once, retry = Patience(0.0, 0.0), RetryConfig(timeout_seconds=timeout_seconds)
    with Connection(base, patience=once, retry=retry) as connection:
        return connection.get(f"/{page}")
