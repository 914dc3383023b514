"""Somebody who audits a market knowing two addresses, for tests."""

from pathlib import Path
from typing import Any

from rich.console import Console

from devchain.server import DevChainServer
from rollcall.cli.audit import audit_market
from tests.stage.front import Front
from tests.stage.place import Place


class Auditor:
    """Somebody with nothing but the two addresses."""

    def __init__(self, place: Place, front: Front, chain: DevChainServer, folder: Path) -> None:
        self.place, self.front, self.chain, self.folder = place, front, chain, folder
        self.proof = folder / "proof.json"
        place.ground.deployment.save(folder / "deployment.json")

    def audit(self, **changes: Any) -> tuple[bool, str]:
        """Return whether all holds, and what was printed."""
        console = Console(width=160, record=True, quiet=True)
        console.quiet = False
        arguments: dict[str, Any] = {
            "rpc": self.chain.url,
            "deployment": self.folder / "deployment.json",
            "console": console,
            "run_id": self.place.run_id,
            "proof_file": self.proof,
            **changes,
        }
        with console.capture() as printed:
            reports = audit_market(self.front.url, **arguments)
        return all(report.holds for report in reports), printed.get()
