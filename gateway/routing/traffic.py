"""Which model answers to a name, and which others stand in for it or see its traffic."""

import random
from pathlib import Path

import yaml
from pydantic import ValidationError

from contracts.routing import RoutingTable, ShadowTarget
from gateway.routing.rendezvous import key_of, weighted_choice


class RoutingFileUnusable(Exception):
    """The file of fallbacks, aliases and shadows cannot be used; the message says where and why."""


def read_routing_table(path: Path | None) -> RoutingTable:
    """Raises RoutingFileUnusable."""
    if path is None:
        return RoutingTable()
    try:
        return RoutingTable.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError as error:
        raise RoutingFileUnusable(f"{path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise RoutingFileUnusable(f"{path} is not valid YAML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RoutingFileUnusable(f"{path}: {place}: {first['msg']}") from None


class Traffic:
    """The routing table in use. `replace` changes it for all requests that come after, in one step."""

    def __init__(self, table: RoutingTable) -> None:
        self.replace(table)

    def replace(self, table: RoutingTable) -> None:
        self._table = table
        self._targets = {
            name: [(target.model, key_of(target.model), target.weight) for target in targets]
            for name, targets in table.aliases.items()
        }

    def is_alias(self, name: str) -> bool:
        return name in self._targets

    def model_for(self, alias: str, subject: str) -> str:
        """The model of the alias that a subject gets: a session, a user or a key, everywhere the same one.

        When weights change, only as many subjects change their model as the weights say.
        """
        return weighted_choice(key_of(f"{alias}\0{subject}"), self._targets[alias])

    def fallbacks_of(self, model: str) -> tuple[str, ...]:
        return self._table.fallbacks.get(model, ())

    def use_of(self, model: str) -> str | None:
        """What the table uses a model for, in words; None where it does not name it."""
        table = self._table
        aliases = [name for name, targets in table.aliases.items() if model in {target.model for target in targets}]
        stands_in = [name for name, models in table.fallbacks.items() if model in models]
        shadows = [name for name, shadow in table.shadows.items() if shadow.model == model]
        for names, use in ((aliases, "the alias"), (stands_in, "a fallback of"), (shadows, "the shadow of")):
            if names:
                return f"{use} `{names[0]}`"
        return None

    def shadow_of(self, asked: str, model: str) -> str | None:
        """The model that gets a copy of this request, if one does now: by the name that was asked for, or the model."""
        if not self._table.shadows:
            return None
        shadow: ShadowTarget | None = self._table.shadows.get(asked) or self._table.shadows.get(model)
        if shadow is None or random.random() >= shadow.share:  # noqa: S311 (no secret)
            return None
        return shadow.model
