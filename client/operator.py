"""An operator's route: to tell an orchestrator of a run. It takes no key: what counts is on chain."""

from client.public import PublicRoutes
from protocol.messages import RunRegistration


class OperatorRoutes(PublicRoutes):
    """What whoever launched a run asks of an orchestrator."""

    def register(self, registration: RunRegistration) -> None:
        """Have a run served; doing it again changes nothing."""
        self._connection.send("POST", "runs", registration.to_json(), is_signed=False)
