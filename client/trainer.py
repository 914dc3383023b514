"""A trainer's routes: batches to learn from, policies and blobs to publish."""

from client.connection import BYTES, Connection, Later, Transport
from client.public import PublicRoutes
from client.retry import GiveUp, RetryConfig, never
from protocol.canonical import content_digest
from protocol.errors import Malformed
from protocol.messages import Batch, BatchRequest, PolicyPublication
from protocol.policies.manifest import Blob, SignedManifest


class TrainerRoutes(PublicRoutes):
    """What one run's trainer asks of an orchestrator."""

    def batch(self, run_id: int, step: int) -> Batch | Later:
        path, body = f"runs/{run_id}/batches", BatchRequest(step=step).to_json()
        answer = self._connection.send("POST", path, body)
        if answer.is_empty:
            return answer.later()
        batch = Batch.from_json(answer.content)
        if (batch.run_id, batch.step) != (run_id, step):
            raise Malformed(f"asked for step {step}, got step {batch.step} of run {batch.run_id}")
        if len({group.work_digest for group in batch.groups}) < len(batch.groups):
            raise Malformed(f"the batch of step {step} names a group twice")
        return batch

    def ack(self, run_id: int, step: int) -> None:
        """Say that the checkpoint made of `step` is durable."""
        self._connection.send("POST", f"runs/{run_id}/batches/{step}/ack")

    def publish(self, signed: SignedManifest) -> None:
        """Publish a policy whose blobs have been put."""
        path = f"runs/{signed.manifest.run_id}/policies"
        self._connection.send("POST", path, PolicyPublication(signed=signed).to_json())

    def put_blob(self, data: bytes) -> Blob:
        """Store immutable bytes under their digest; doing it again changes nothing."""
        digest = content_digest(data)
        self._connection.send("PUT", f"blobs/0x{digest.hex()}", data, content_type=BYTES)
        return Blob(digest=digest, size=len(data))


def open_trainer_routes(
    url: str,
    run_id: int,
    key: bytes,
    *,
    give_up: GiveUp = never,
    transport: Transport | None = None,
) -> TrainerRoutes:
    """Connect a run's trainer; it signs in for the run's chain, as the orchestrator names it."""
    retry = RetryConfig(timeout_seconds=30.0)
    asking = Connection(url, key, give_up=give_up, retry=retry, transport=transport)
    with PublicRoutes(asking) as public:
        chain_id = public.run(run_id).chain_id
    return TrainerRoutes(
        Connection(url, key, chain_id=chain_id, give_up=give_up, retry=retry, transport=transport)
    )
