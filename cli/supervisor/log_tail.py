"""Finds the lines of a log that tell why a service failed."""

import json
from pathlib import Path

TAIL_BYTES = 64 << 10
TELLING = ("error", "exception", "failed", "fatal", "cannot", "could not", "denied", "no such", "not found", "refused")


def telling_lines(log: Path, *, since_byte: int = 0, most: int = 6) -> str:
    """The last lines that speak of an error, else simply the last lines."""
    lines = [_plain(line) for line in _tail(log, since_byte) if line.strip()]
    telling = [line for line in lines if any(word in line.lower() for word in TELLING)]
    return "\n".join((telling or lines)[-most:]) or "It wrote nothing to its log."


def _tail(log: Path, since_byte: int) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as source:
        source.seek(max(since_byte, log.stat().st_size - TAIL_BYTES))
        return source.read().decode(errors="replace").splitlines()


def _plain(line: str) -> str:
    """A JSON log line as a person would write it; other lines as they are, cut to a readable length."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.rstrip()[:300]
    if not isinstance(entry, dict) or "event" not in entry:
        return line.rstrip()[:300]
    if "exception" in entry:
        return f"{entry['event']}: {str(entry['exception']).strip().splitlines()[-1]}"[:300]
    level, reason = entry.get("level", "info"), entry.get("reason")
    return f"{level}: {entry['event']}" + ("" if reason is None else f": {reason}")[:300]
