"""Agreement among the processes of one training; with one process these cost nothing. Importing this imports torch."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed

Value = TypeVar("Value")


def agree(decide: Callable[[], Value]) -> Value:
    """What the first process decides, in all of them. Every process must call it; one broadcast."""
    if not torch.distributed.is_initialized():
        return decide()
    decided = [decide() if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(decided, src=0)
    return decided[0]  # type: ignore[return-value]


def wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
