"""Identifiers in OpenAI's style: a prefix that names the kind, then random letters."""

import re
import secrets
from typing import Literal

Kind = Literal["file", "upload", "part", "ftjob", "ftevent", "key", "req", "engine"]

_SEPARATOR = {
    "file": "-",
    "upload": "_",
    "part": "_",
    "ftjob": "-",
    "ftevent": "-",
    "key": "_",
    "req": "_",
    "engine": "-",
}
SUFFIX_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def new_id(kind: Kind) -> str:
    """A fresh identifier, for example `ftjob-3f9a…` (96 random bits)."""
    return f"{kind}{_SEPARATOR[kind]}{secrets.token_hex(12)}"


def fine_tuned_model_name(base: str, tenant: str, suffix: str | None, job_id: str) -> str:
    """`ft:<base>:<tenant>:<suffix>:<id>`, OpenAI's form; the id makes it unique and derives from the job."""
    return f"ft:{base}:{tenant}:{suffix or ''}:{job_id.rpartition('-')[2][:8]}"
