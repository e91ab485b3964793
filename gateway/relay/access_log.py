"""A line in the log for each request, in the form of all other lines, written in batches."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

FLUSH_EVERY_S = 0.1


class AccessLog:
    """Lines of the last `FLUSH_EVERY_S` are lost when the process is killed."""

    def __init__(self, stream: BinaryIO, *, service: str) -> None:
        self._stream = stream
        self._service = service
        self._enabled = logging.getLogger().isEnabledFor(logging.INFO)
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode

    def write(self, trace_id: str, **fields: object) -> None:
        if not self._enabled:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self.flush)
        fields |= {
            "event": "request",
            "logger": "gateway.access",
            "level": "info",
            "timestamp": datetime.now(UTC).isoformat(),
            "trace_id": trace_id,
            "service": self._service,
        }
        self._lines.append(self._encode(fields))

    def flush(self) -> None:
        if self._lines:
            self._stream.write(b"\n".join(self._lines) + b"\n")
            self._stream.flush()
            self._lines.clear()
