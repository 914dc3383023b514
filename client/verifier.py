"""A verifier's routes: groups to replay, verdicts, and signatures of epochs and fraud reports."""

from client.connection import Later
from client.public import PublicRoutes, require_asked
from client.retry import GiveUp
from protocol.messages import (
    AuditRequest,
    AuditTasks,
    EpochSignature,
    FraudReportSignature,
    FraudReportTasks,
    VerdictReply,
)
from protocol.verdict import Verdict


class VerifierRoutes(PublicRoutes):
    """What a verifier asks of an orchestrator; threads may share it."""

    def audits(
        self, run_id: int, asked: AuditRequest, *, give_up: GiveUp | None = None
    ) -> AuditTasks | Later:
        path = f"runs/{run_id}/audits"
        answer = self._connection.send("POST", path, asked.to_json(), give_up=give_up)
        if answer.is_empty:
            return answer.later()
        found = AuditTasks.from_json(answer.content)
        require_asked(len(found.tasks), asked.count, "replays")
        return found

    def verdict(
        self, run_id: int, verdict: Verdict, *, give_up: GiveUp | None = None
    ) -> VerdictReply:
        path = f"runs/{run_id}/audits/0x{verdict.work_digest.hex()}/verdict"
        answer = self._connection.send("POST", path, verdict.to_json(), give_up=give_up)
        return VerdictReply.from_json(answer.content)

    def fraud_reports(self, run_id: int, *, give_up: GiveUp | None = None) -> FraudReportTasks:
        answer = self._connection.send("GET", f"runs/{run_id}/fraud-reports", give_up=give_up)
        return FraudReportTasks.from_json(answer.content)

    def sign_fraud_report(
        self, run_id: int, signed: FraudReportSignature, *, give_up: GiveUp | None = None
    ) -> None:
        path = f"runs/{run_id}/fraud-reports/0x{signed.work_digest.hex()}"
        self._connection.send("POST", path, signed.to_json(), give_up=give_up)

    def sign_epoch(
        self, run_id: int, epoch: int, signature: bytes, *, give_up: GiveUp | None = None
    ) -> None:
        path, body = f"runs/{run_id}/epochs/{epoch}/signatures", EpochSignature(signature=signature)
        self._connection.send("POST", path, body.to_json(), give_up=give_up)
