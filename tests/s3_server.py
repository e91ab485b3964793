"""An S3 server on this machine: moto's, which keeps everything in memory."""

from pathlib import Path

import httpx
import pytest

from tests.processes import Process, free_port, python

BUCKET = "flywheel"


class S3Server(Process):
    """`settings` are the variables that clients of AWS read."""

    def __init__(self, log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.settings = {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "flywheel",
            "AWS_SECRET_ACCESS_KEY": "no-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        super().__init__(python("-m", "moto.server", "--port", str(port)), log=log)
        self.wait_until(self._answers)
        httpx.put(f"{self.url}/{BUCKET}").raise_for_status()

    def be_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By this process and its children."""
        for name, value in self.settings.items():
            monkeypatch.setenv(name, value)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url).is_success
        except httpx.TransportError:
            return False
