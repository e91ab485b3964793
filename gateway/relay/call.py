"""One request on its way through the data path."""

from dataclasses import dataclass

from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.openai import DataPathRequest
from gateway.cache.repeats import BYPASS, CacheUse
from gateway.guardrails.guards import Guards
from gateway.relay.decode import rename_model
from gateway.relay.exchange import MODEL_HEADER, Exchange
from gateway.relay.record import Progress
from gateway.relay.route import DataPathRoute


@dataclass(slots=True)
class Call:
    """A request that was understood: who asks what of which model. `progress` is what is written down of it."""

    route: DataPathRoute
    key: ApiKey
    request: DataPathRequest
    body: bytes
    """What goes to the engine: the client's own bytes, where nothing had to be changed."""
    card: ModelCard
    session: str | None
    use: CacheUse
    progress: Progress
    guards: Guards | None = None

    @property
    def priority(self) -> int | None:
        return getattr(self.request, "priority", None)

    def fall_back_to(self, card: ModelCard, exchange: Exchange) -> None:
        """From here on another model is asked. Its answer is no answer to the question that the cache knows."""
        self.card = self.progress.card = card
        self.body = rename_model(self.body, card.name)
        self.use = BYPASS
        exchange.headers = [header for header in exchange.headers if header[0] != MODEL_HEADER]
        exchange.headers.append((MODEL_HEADER, card.name.encode()))
