"""Logging: one JSON object a line on stderr, ours and that of the libraries alike.

Our code logs through structlog: `structlog.get_logger().info("session closed", turns=3)`.
What is logged are names, ids, counts and times; never audio, transcripts or keys.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO

import structlog
from structlog.typing import Processor


class LastingLogger(structlog.WriteLogger):
    """Writes lines to a stream, and does without once nobody reads them any more.

    What goes wrong with a log (its reader is gone, the disk is full) must not end what is logged
    about: conversations, or the shutdown that a signal asks for. Libraries' logs go through
    `logging`, which is as lenient.
    """

    def msg(self, message: str) -> None:
        """Write a line; it is lost where the stream takes none."""
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` as JSON lines.

    Libraries are heard from WARNING up, whatever `level` is: at DEBUG the WebSocket
    library would log what people said.

    Args:
        level: `debug`, `info`, `warning` or `error`, for our own logs.
        stream: stderr when None.
    """
    stream = stream or sys.stderr
    # Tracebacks as text: structlog's dictionaries would hold every frame's local variables.
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: LastingLogger(stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
