"""The models that answer in another one's place."""

import structlog

from contracts.errors import InvalidValue, ModelNotFound
from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.openai import DataPathRequest
from gateway.metrics import Metrics
from gateway.relay.decode import check_length
from gateway.routing.models import ModelDirectory
from gateway.routing.traffic import Traffic


class Fallbacks:
    def __init__(self, traffic: Traffic, models: ModelDirectory, metrics: Metrics) -> None:
        self._traffic = traffic
        self._models = models
        self._metrics = metrics
        self._log = structlog.get_logger(__name__)

    def of(self, card: ModelCard, key: ApiKey, request: DataPathRequest) -> list[ModelCard]:
        """Fallbacks in their order, as far as the key may use them and they can do what is asked."""
        names = self._traffic.fallbacks_of(card.name)
        return [fallback for name in names if (fallback := self._usable(name, card, key, request)) is not None]

    def note(self, card: ModelCard, fallback: ModelCard) -> None:
        self._metrics.fallbacks.labels(card.name, fallback.name).inc()
        self._log.warning("falling back", model=card.name, fallback=fallback.name)

    def _usable(self, name: str, card: ModelCard, key: ApiKey, request: DataPathRequest) -> ModelCard | None:
        try:
            fallback = self._models.require(name, key)
            check_length(request, fallback)
        except (ModelNotFound, InvalidValue):
            return None
        return fallback if fallback.task == card.task else None
