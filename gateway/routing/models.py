"""The models that exist, as a copy of the registry in this process."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import ModelNotFound
from contracts.keys import ApiKey
from contracts.models import ModelCard
from store.models import ModelRepository

REFRESH_S = 5.0


class ModelDirectory:
    """Looks models up without a query. Refreshed at news, and every few seconds in case news was lost."""

    def __init__(self, models: ModelRepository) -> None:
        self._models = models
        self._cards: dict[str, ModelCard] = {}
        self._changed = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    def require(self, name: str, key: ApiKey, *, alias: str | None = None, shared: bool = False) -> ModelCard:
        """The card of a model that this key may use, itself or by an alias. A shared alias shares its models.

        Raises ModelNotFound, also where it exists for others only.
        """
        card = self._cards.get(name)
        if card is None or not (_visible(card, key) or (alias is not None and _visible_as(alias, card, key, shared))):
            raise ModelNotFound(alias or name)
        return card

    def find(self, name: str) -> ModelCard | None:
        """The card of a model, whoever may use it."""
        return self._cards.get(name)

    def has(self, name: str) -> bool:
        """Whether any tenant has such a model."""
        return name in self._cards

    def visible_to(self, key: ApiKey) -> list[ModelCard]:
        return [card for card in self._cards.values() if _visible(card, key)]

    def root_of(self, card: ModelCard) -> str:
        """The name of the base model that a model goes back to, as far as its ancestors are known."""
        seen = {card.name}
        while card.parent is not None and card.parent not in seen:
            parent = self._cards.get(card.parent)
            if parent is None:
                return card.parent
            card = parent
            seen.add(card.name)
        return card.name

    def of_tenant(self, tenant: str) -> list[str]:
        """Names of the models that answer this tenant, whatever its keys may use."""
        return [card.name for card in self._cards.values() if card.tenant in (None, tenant)]

    async def refresh(self) -> None:
        cards = await asyncio.to_thread(self._models.all)
        self._cards = {card.name: card for card in cards}

    def refresh_soon(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Keeps the copy fresh until cancelled. While SQL is away the last copy serves on."""
        while True:
            self._changed.clear()
            try:
                await self.refresh()
            except SQLAlchemyError as error:
                self._log.warning("models not refreshed", reason=type(error).__name__)
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._changed.wait()
            except TimeoutError:
                pass


def _visible_as(alias: str, card: ModelCard, key: ApiKey, shared: bool) -> bool:
    return (shared or card.tenant in (None, key.tenant)) and key.may_use(alias)


def _visible(card: ModelCard, key: ApiKey) -> bool:
    return card.tenant in (None, key.tenant) and key.may_use(card.name, parent=card.parent)
