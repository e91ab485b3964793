"""A handle on a real gateway that runs as a process of its own."""

import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from contracts.keys import ALL_SCOPES, Scope
from store.artifacts import ArtifactStore
from store.database import Database
from store.keys import KeyRepository, NewApiKey
from tests.processes import Process, free_port, python

PEPPER = "a pepper for tests, and for tests only"


class GatewayProcess:
    """`python -m gateway` over its own database and artifacts in `folder`.

    `settings` are `FLYWHEEL_…` variables and win over the defaults here.
    """

    def __init__(self, *, redis_url: str, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.url}/v1"
        self.settings = {
            "FLYWHEEL_HOME": str(folder),
            "FLYWHEEL_REDIS_URL": redis_url,
            "FLYWHEEL_DATABASE_URL": f"sqlite:///{folder}/flywheel.db",
            "FLYWHEEL_ARTIFACTS_URL": f"file://{folder}/artifacts",
            "FLYWHEEL_AUTH__PEPPER": PEPPER,
            "FLYWHEEL_GATEWAY__PORT": str(self.port),
            "FLYWHEEL_GATEWAY__LEASE_REFRESH_S": "0.1",
        } | dict(settings or {})
        self.database = Database(self.settings["FLYWHEEL_DATABASE_URL"])
        self.database.migrate()
        self.artifacts = ArtifactStore(self.settings["FLYWHEEL_ARTIFACTS_URL"])
        self.keys = KeyRepository(self.database, PEPPER)
        self.process = Process(python("-m", "gateway"), log=folder / "gateway.log", environment=self.settings)
        self.process.wait_until(self._is_live)

    def new_key(
        self, *, tenant: str | None = None, name: str = "test", scopes: Iterable[Scope] = ALL_SCOPES, **fields: Any
    ) -> NewApiKey:
        """A key of a tenant of its own, so that tests share neither cached answers nor limits."""
        return self.keys.create(tenant=tenant or f"tenant-{uuid.uuid4().hex[:8]}", name=name, scopes=scopes, **fields)

    def client(self, secret: str | None = None, **options: Any) -> httpx.AsyncClient:
        """An HTTP client with a key: `secret`, or a fresh one with every scope."""
        bearer = self.new_key().secret if secret is None else secret
        headers = {"authorization": f"Bearer {bearer}"}
        return httpx.AsyncClient(**{"base_url": self.url, "headers": headers, "timeout": 15} | options)

    def stop(self) -> int:
        exit_code = self.process.stop()
        self.database.dispose()
        return exit_code

    def _is_live(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", timeout=1).status_code == 200
        except httpx.TransportError:
            return False
