"""The engines of a local stack that start on demand."""

import asyncio

from cli.supervisor.ports import free_ports
from cli.supervisor.services import ServiceCatalogue, engine_step
from cli.supervisor.supervisor import Supervisor
from inference.catalogue import Catalogue
from store.models import ModelRepository


class LocalEngines:
    """Services of the supervisor: models of the catalogue that say so, and whole models that jobs made."""

    def __init__(
        self, supervisor: Supervisor, services: ServiceCatalogue, catalogue: Catalogue, models: ModelRepository
    ) -> None:
        self._supervisor = supervisor
        self._services = services
        self._catalogue = catalogue
        self._models = models

    async def is_servable(self, model: str) -> bool:
        """Raises SQLAlchemyError."""
        if any(known.name == model and known.on_demand for known in self._catalogue.models):
            return True
        card = await asyncio.to_thread(self._models.get, model)
        return card is not None and card.kind == "full" and card.on_demand

    def is_running(self, model: str) -> bool:
        return self._supervisor.runs(engine_step(model))

    def start(self, model: str) -> None:
        self._supervisor.start_later(self._services.engine(model, free_ports(1)[0]))

    async def stop(self, model: str) -> None:
        await self._supervisor.stop_one(engine_step(model))
