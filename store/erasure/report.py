"""What an erasure did."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Left:
    """Something that an erasure did not touch."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """`erased` counts by the word for what was erased."""

    erased: dict[str, int]
    left: tuple[Left, ...]
