"""An operator's route: tell an orchestrator of a run. It takes no key, because the chain decides."""

from client.public import PublicRoutes
from protocol.messages import RunRegistration


class OperatorRoutes(PublicRoutes):
    """What an operator asks of an orchestrator after a launch."""

    def register(self, registration: RunRegistration) -> None:
        """Have a run served; doing it again changes nothing."""
        self._connection.send("POST", "runs", registration.to_json(), is_signed=False)
