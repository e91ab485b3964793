"""Raw text as training sequences of one length."""

from collections.abc import Callable, Iterable

from contracts.datasets import NumberedRow, TextRow
from workers.run import JobFailed

SHORTEST = 16
Tokenize = Callable[[str], list[int]]


def text_blocks(
    rows: Iterable[NumberedRow], tokenize: Tokenize, *, separator: int | None, length: int, param: str
) -> list[list[int]]:
    """All texts in a row, parted by the separator, cut into blocks; what is left at the end is a shorter block
    unless it is too short to learn from.

    Raises JobFailed for a file that does not fill one block.
    """
    stream: list[int] = []
    for numbered in rows:
        assert isinstance(numbered.row, TextRow)
        stream += tokenize(numbered.row.text)
        if separator is not None:
            stream.append(separator)
    if len(stream) < length:
        message = f"The {param.replace('_', ' ')} has {len(stream)} tokens; a training sequence has {length}."
        raise JobFailed(f"invalid_{param}", message, param=param)
    blocks = [stream[start : start + length] for start in range(0, len(stream), length)]
    return [block for block in blocks if len(block) >= min(length, SHORTEST)]
