"""A real engine and its agent as a child process."""

from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.processes import ROOT, Process, free_port

ENGINE_PYTHON = ROOT / ".flywheel/envs/engine/bin/python"
START_S = 600.0


class EngineProcess(Process):
    """Answers at `url` once it is made. `settings` name its Redis and database; `folder` holds its files and log."""

    def __init__(self, model: str, folder: Path, settings: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        own = {"FLYWHEEL_HOME": str(folder), "FLYWHEEL_ENGINE__PORT": str(port)}
        command = [str(ENGINE_PYTHON), "-m", "inference.agent", model]
        super().__init__(command, log=folder / "engine.log", environment={**settings, **own})
        self.wait_until(self._is_healthy, timeout_s=START_S)

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=1).status_code == 200
        except httpx.TransportError:
            return False
