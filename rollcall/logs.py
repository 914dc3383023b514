"""Logging, configured once per process by its entry point: a lower-case fact, then pairs.

Lines go to standard error: coloured for a person, `key=value` where it is a file.
"""

import logging
import sys

import structlog


def configure_logging(role: str, *, level: str = "info") -> None:
    """Set the process's one log form; `role` stands in every line."""
    is_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if is_terminal
        else structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "role", "event"], bool_as_flag=False
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
