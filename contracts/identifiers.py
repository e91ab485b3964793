"""Identifiers in OpenAI's style: a prefix that names the kind, then random letters."""

import re
import secrets
from typing import Literal

Kind = Literal[
    "file",
    "upload",
    "part",
    "ftjob",
    "ftevent",
    "ftckpt",
    "key",
    "req",
    "engine",
    "capture",
    "feedback",
    "release",
    "eval",
    "evalrun",
    "outputitem",
    "modr",
]

_UNDERSCORED = frozenset({"key", "req", "upload", "part", "eval", "evalrun", "outputitem"})
SUFFIX_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def new_id(kind: Kind) -> str:
    """A fresh identifier, for example `ftjob-3f9a…` (96 random bits)."""
    return f"{kind}{'_' if kind in _UNDERSCORED else '-'}{secrets.token_hex(12)}"


def fine_tuned_model_name(base: str, tenant: str, suffix: str | None, job_id: str) -> str:
    """`ft:<base>:<tenant>:<suffix>:<id>`, OpenAI's form; the id makes it unique and derives from the job."""
    return f"ft:{base}:{tenant}:{suffix or ''}:{job_id.rpartition('-')[2][:8]}"


def checkpoint_model_name(base: str, tenant: str, suffix: str | None, job_id: str, step: int) -> str:
    """OpenAI's form of a checkpoint's name."""
    return f"{fine_tuned_model_name(base, tenant, suffix, job_id)}:ckpt-step-{step}"
