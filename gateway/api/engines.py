"""/v1/flywheel: the engines and who uses them, for operators. Needs a key of scope `admin`."""

from collections import Counter
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request

from contracts.fleet import EngineStatus, EngineStatusList, TenantStatus, TenantStatusList
from gateway.api.access import AdminKey
from gateway.queueing.queue import EngineQueue
from gateway.routing.engine import Engine
from gateway.routing.fleet import Fleet

router = APIRouter(prefix="/v1/flywheel", tags=["Fleet"])


class FleetService:
    def __init__(self, fleet: Fleet, queue: EngineQueue) -> None:
        self._fleet = fleet
        self._queue = queue

    def engines(self) -> list[EngineStatus]:
        return [_describe(engine) for engine in self._fleet.engines()]

    def tenants(self) -> list[TenantStatus]:
        waiting: Counter[str] = Counter()
        for of_model in self._queue.waiting().values():
            waiting.update(of_model)
        return [
            TenantStatus(tenant=name, in_flight=use.in_flight, waiting=waiting[name], tokens=round(use.tokens))
            for name, use in self._queue.tenants.items()
        ]


def _describe(engine: Engine) -> EngineStatus:
    lease, load = engine.lease, engine.lease.load
    return EngineStatus(
        id=lease.engine,
        model=lease.model,
        adapters=list(lease.adapters),
        state=_state(engine),
        capacity=lease.capacity,
        in_flight=engine.in_flight,
        running=load.running,
        waiting=load.waiting,
        kv_cache_usage=load.kv_cache_usage,
        prefix_queries=load.prefix_queries,
        prefix_hits=load.prefix_hits,
    )


def _state(engine: Engine) -> Literal["live", "ejected", "draining"]:
    if engine.lease.draining:
        return "draining"
    return "live" if engine.health.fit else "ejected"


def _service(request: Request) -> FleetService:
    service: FleetService = request.app.state.fleet_service
    return service


Service = Annotated[FleetService, Depends(_service)]


@router.get("/engines", summary="List the live engines and their load.")
async def list_engines(_key: AdminKey, service: Service) -> EngineStatusList:
    return EngineStatusList(data=service.engines())


@router.get("/tenants", summary="List the tenants that used engines, and what they have and wait for.")
async def list_tenants(_key: AdminKey, service: Service) -> TenantStatusList:
    return TenantStatusList(data=service.tenants())
