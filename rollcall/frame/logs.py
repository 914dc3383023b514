"""Logging, configured once per process by its entry point: a lower-case fact, then pairs.

Lines go to standard error: coloured for a person, `key=value` for a file.
"""

import logging
import os
import sys
from typing import Any

from protocol.user_error import hosts_only


def configure_logging(role: str) -> None:
    """Set the process's one log form; `role` stands in every line."""
    import structlog

    is_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if is_terminal
        else structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "role", "event"], bool_as_flag=False
        )
    )
    facts: list[structlog.typing.Processor] = [
        lambda _logger, _method, values: {"role": role, **values},
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.processors.format_exc_info,
        _hosts_only,
    ]
    structlog.configure(
        processors=[*facts, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    libraries = logging.StreamHandler()
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*facts, structlog.stdlib.add_logger_name],
            processors=[strip, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])


def _hosts_only(_logger: object, _method: str, values: Any) -> Any:
    """Cut the URLs of a trace at their host: the libraries' errors within name a node's whole address."""
    if "exception" in values:
        values["exception"] = hosts_only(values["exception"])
    return values


def quiet_libraries() -> None:
    """Keep libraries from drawing progress bars into a person's view, here and in children."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:  # it has read its environment already
        sys.modules["transformers"].utils.logging.disable_progress_bar()
