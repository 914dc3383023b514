"""A fraud proof as a file: the unsigned transaction, ready for any wallet, and its meaning."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from audit.fraud import Finding
from ledger.ledger import Ledger
from local.files import write_whole


def write_proof(ledger: Ledger, finding: Finding, path: Path) -> None:
    """Write the transaction that proves `finding`."""
    draft = ledger.draft(finding.method, *finding.arguments)
    body = {
        "to": draft.to,
        "data": "0x" + draft.data.hex(),
        "value": "0x0",
        "chainId": ledger.deployment.chain_id,
        "method": draft.function,
        "fault": finding.fault.name,
        "what": finding.what,
        "arguments": [_plain(argument) for argument in finding.arguments],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(body, indent=1) + "\n")


def _plain(value: Any) -> Any:
    """Return JSON for people: bytes as hex, leaves and headers by the names of their fields."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
