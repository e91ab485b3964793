"""The models that answer in another one's place."""

import structlog

from contracts.errors import InvalidValue, ModelNotFound
from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.openai import DataPathRequest
from gateway.metrics import Metrics
from gateway.relay.decode import check_length
from gateway.routing.aliases import Trial
from gateway.routing.models import ModelDirectory
from gateway.routing.traffic import Traffic


class Fallbacks:
    def __init__(self, traffic: Traffic, models: ModelDirectory, metrics: Metrics) -> None:
        self._traffic = traffic
        self._models = models
        self._metrics = metrics
        self._log = structlog.get_logger(__name__)

    def of(self, card: ModelCard, key: ApiKey, request: DataPathRequest, trial: Trial | None = None) -> list[ModelCard]:
        """Fallbacks in their order, as far as the key may use them and they can do what is asked.

        In a trial the stable model answers first in the candidate's place.
        """
        names = self._traffic.fallbacks_of(card.name)
        if trial is not None and trial.is_candidate:
            names = (trial.stable, *names, *self._traffic.fallbacks_of(trial.stable))
        elif not names:
            return []
        usable = (self._usable(name, card, key, request, trial) for name in dict.fromkeys(names))
        return [fallback for fallback in usable if fallback is not None]

    def note(self, card: ModelCard, fallback: ModelCard) -> None:
        label_of = self._metrics.label_of
        self._metrics.fallbacks.labels(label_of(card.name), label_of(fallback.name)).inc()
        self._log.warning("falling back", model=card.name, fallback=fallback.name)

    def _usable(
        self, name: str, card: ModelCard, key: ApiKey, request: DataPathRequest, trial: Trial | None
    ) -> ModelCard | None:
        try:
            if trial is not None and name == trial.stable:
                fallback = self._models.require(name, key, alias=trial.alias, shared=trial.shared)
            else:
                fallback = self._models.require(name, key)
            check_length(request, fallback)
        except (ModelNotFound, InvalidValue):
            return None
        return fallback if fallback.task == card.task else None
