"""What the programs that use torch have in common: they read their task, make, and tell how it ended."""

from collections.abc import Callable

from workers.compress.told import CannotMake, Task, Teller, begin


def run(make: Callable[[Task, Teller], dict[str, float]]) -> None:
    """`make` writes the variant and returns what is to be told of it."""
    task, teller = begin()
    try:
        facts = make(task, teller)
    except CannotMake as reason:
        teller.failed(str(reason))
    else:
        teller.made(**facts)
