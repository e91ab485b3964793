"""Lengths of time as people write them."""

import re

from cli.errors import CliError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> int:
    """Raises CliError."""
    match = re.fullmatch(r"([1-9][0-9]*)([smhd])", text)
    if match is None:
        raise CliError(f"`{text}` is not a length of time.", advice="Write for example 30m, 12h or 90d.")
    return int(match[1]) * SECONDS[match[2]]
