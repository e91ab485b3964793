"""A handle on a fake engine that runs as a process of its own."""

from pathlib import Path
from typing import Any

import httpx

from tests.processes import Process, accepts_connections, free_port, python


class FakeEngineProcess:
    def __init__(self, *, log: Path, model: str = "smollm2-135m-instruct", context_length: int = 2048) -> None:
        self.model, self.context_length = model, context_length
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = ("--port", str(self.port), "--model", model, "--context-length", str(context_length))
        self.process = Process(python("-m", "tests.fake_engine", *arguments), log=log)
        self.process.wait_until(lambda: accepts_connections(self.port))
        self._client = httpx.Client(base_url=self.url, timeout=5)

    def behaviour(self, **fields: Any) -> None:
        """Sets what it does from now on; see `tests.fake_engine.behaviour.Behaviour`. No fields: healthy again."""
        answer = self._client.post("/_fake/behaviour", json=fields)
        assert answer.status_code == 200, answer.text

    def requests(self) -> list[dict[str, Any]]:
        """What it received, in order: method, path, headers, body, chunks_sent, finished, client_gone."""
        received: list[dict[str, Any]] = self._client.get("/_fake/requests").json()
        return received

    def reset(self) -> None:
        """Healthy, with no adapters and no memory."""
        self._client.post("/_fake/reset")

    def stop(self) -> None:
        self._client.close()
        self.process.stop()
