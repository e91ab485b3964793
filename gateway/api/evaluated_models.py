"""The models that an evaluation may ask: the key's own, aliases, and those of others that the operator allows."""

from collections.abc import Collection

from contracts.engine import EngineTask
from contracts.errors import InvalidValue, ModelNotFound
from contracts.evals import EXTERNAL
from contracts.keys import ApiKey
from gateway.routing.aliases import Aliases


class EvaluatedModels:
    """`endpoints` are the names behind `external/`."""

    def __init__(self, aliases: Aliases, endpoints: Collection[str]) -> None:
        self._aliases, self._endpoints = aliases, endpoints

    def check(self, name: str, key: ApiKey, *, task: EngineTask, param: str) -> None:
        """Raises ModelNotFound, and InvalidValue for a model of another task."""
        if name.startswith(EXTERNAL):
            if name.removeprefix(EXTERNAL) not in self._endpoints:
                raise ModelNotFound(name)
            return
        card, _ = self._aliases.resolve(name, key, subject=key.id)
        if card.task != task:
            raise InvalidValue(f"The model `{name}` does not do this: its task is `{card.task}`.", param=param)
