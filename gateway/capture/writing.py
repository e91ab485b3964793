"""The process beside a gateway that redacts captures and writes them to SQL."""

import queue
import sys
import threading
import time
from typing import BinaryIO

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from contracts.captures import Capture
from gateway.capture.feed import HEAD_BYTES
from gateway.capture.raw import RawCapture
from gateway.capture.reading import CaptureReader, NotCapturable
from store.captures import CaptureRepository

BATCH = 100
GATHER_S = 0.5
MOST_WAITING = 64
ATTEMPTS = 4
FIRST_PAUSE_S = 0.5

log = structlog.get_logger(__name__)


class CaptureWriter:
    """Reads captures from the gateway until it closes the pipe, and writes them in batches.

    While SQL is away a batch is tried again for some seconds, then it is lost; meanwhile the pipe fills, and the
    gateway drops what finds no room.
    """

    def __init__(self, reader: CaptureReader, captures: CaptureRepository) -> None:
        self._reader = reader
        self._captures = captures
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)

    def run(self, source: BinaryIO) -> None:
        threading.Thread(target=self._receive, args=(source,), daemon=True).start()
        more = True
        while more:
            batch, more = self._gather()
            if batch:
                self._write(batch)

    def _receive(self, source: BinaryIO) -> None:
        while len(head := source.read(HEAD_BYTES)) == HEAD_BYTES:
            length = int.from_bytes(head, "big")
            if len(capture := source.read(length)) < length:
                break
            self._waiting.put(capture)
        self._waiting.put(None)

    def _gather(self) -> tuple[list[bytes], bool]:
        """Captures of about `GATHER_S`; false where the gateway has closed the pipe after them."""
        batch: list[bytes] = []
        ends_at: float | None = None
        while len(batch) < BATCH:
            try:
                rest_s = None if ends_at is None else max(0.0, ends_at - time.monotonic())
                capture = self._waiting.get(timeout=rest_s)
            except queue.Empty:
                break
            if capture is None:
                return batch, False
            batch.append(capture)
            ends_at = ends_at or time.monotonic() + GATHER_S
        return batch, True

    def _write(self, batch: list[bytes]) -> None:
        readable: list[Capture] = []
        for raw in batch:
            try:
                readable.append(self._reader.read(msgspec.msgpack.decode(raw, type=RawCapture)))
            except NotCapturable:
                continue
        written = len(readable) if self._store(readable) else 0
        print(written, len(batch) - len(readable), len(readable) - written, flush=True)

    def _store(self, captures: list[Capture]) -> bool:
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._captures.add(captures)
            except SQLAlchemyError as error:
                log.warning("captures not written", reason=type(error).__name__, attempt=attempt)
                if attempt < ATTEMPTS:
                    time.sleep(pause_s)
                    pause_s *= 2
            else:
                return True
        return False


def standard_input() -> BinaryIO:
    return sys.stdin.buffer
