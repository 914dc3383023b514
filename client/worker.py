"""A worker's routes: leases, submissions, self-checks. Its connection has the key it signs in with."""

from client.connection import BYTES, Later
from client.public import PublicRoutes, require_asked
from client.retry import GiveUp
from protocol.messages import LeaseRequest, Leases, ReturnedLeases, SelfCheck
from protocol.rollout import Receipt


class WorkerRoutes(PublicRoutes):
    """What a worker asks of an orchestrator; threads may share it."""

    def lease(
        self, run_id: int, request: LeaseRequest, *, give_up: GiveUp | None = None
    ) -> Leases | Later:
        """Ask for leases. If the answer gets lost, its leases expire at their deadline."""
        path, body = f"runs/{run_id}/leases", request.to_json()
        answer = self._connection.send("POST", path, body, give_up=give_up)
        if answer.is_empty:
            return answer.later()
        found = Leases.from_json(answer.content)
        require_asked(len(found.leases), request.count, "leases")
        return found

    def return_leases(
        self, run_id: int, lease_ids: tuple[bytes, ...], *, give_up: GiveUp | None = None
    ) -> None:
        body = ReturnedLeases(lease_ids=lease_ids).to_json()
        self._connection.send("POST", f"runs/{run_id}/leases/return", body, give_up=give_up)

    def submit(self, run_id: int, body: bytes, *, give_up: GiveUp | None = None) -> Receipt:
        """Send a compressed submission. Repeating it is safe: the receipt is the same."""
        path = f"runs/{run_id}/submissions"
        answer = self._connection.send("POST", path, body, content_type=BYTES, give_up=give_up)
        return Receipt.from_json(answer.content)

    def self_check(self, run_id: int, found: SelfCheck, *, give_up: GiveUp | None = None) -> None:
        """Send this machine's measurement of itself, so that a pause ends."""
        path = f"runs/{run_id}/self-check"
        self._connection.send("POST", path, found.to_json(), give_up=give_up)
