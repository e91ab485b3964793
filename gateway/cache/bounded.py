"""A mapping that forgets."""

from collections import OrderedDict
from typing import Generic, TypeVar

Name = TypeVar("Name")
Value = TypeVar("Value")


class BoundedMap(Generic[Name, Value]):
    """Keeps the `most` entries that were used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[Name, Value] = OrderedDict()

    def get(self, name: Name) -> Value | None:
        value = self._entries.get(name)
        if value is not None:
            self._entries.move_to_end(name)
        return value

    def __setitem__(self, name: Name, value: Value) -> None:
        self._entries[name] = value
        self._entries.move_to_end(name)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)
