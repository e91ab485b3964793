"""The services of docker-compose.yml as processes of the images that were built, all on one loopback.

As the file says: commands, variables, secrets as files, volumes, health checks; /tmp in memory, all else read-only.
Not as it says: memory is not limited, and Valkey is the one of a package instead of its own image.
"""

import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deploy.checks.compose import config
from deploy.make_secrets import make
from deploy.prove.image import Image, kept
from deploy.prove.sandbox import Container, Mounts

SIOCSIFFLAGS = 0x8914  # linux/sockios.h
IFF_UP = 1
ENDED_BY_SIGTERM = 128 + signal.SIGTERM
POLL_S = 0.2


class Failed(RuntimeError):
    """A service did not do what it should; the message ends with its log."""


def raise_loopback() -> None:
    """A network namespace begins with nothing that works."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


class Stack:
    """`logs` keeps what each service said."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder, self._logs = folder, logs
        self.services = config(["studies", "tools"])
        make(folder / "secrets", postgres=False)
        (folder / "secrets").chmod(0o755)  # what an engine mounts, the user of a container can reach
        self._hosts = folder / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()} {' '.join(self.services)}\n")
        self.running: dict[str, Container] = {}

    def image(self, service: str) -> Image:
        """Raises NotBuilt."""
        return kept(self.services[service]["build"]["target"])

    def start(self, service: str, *more: str, words: Sequence[str] | None = None, name: str | None = None) -> Container:
        """With the service's own command if no `words` are named, `more` after it."""
        says, image = self.services[service], self.image(service)
        own = [*(says.get("entrypoint") or image.entrypoint), *(says.get("command") or ())]
        return Container(
            image.root,
            [*(own if words is None else words), *more],
            user=image.user,
            variables={**image.variables, **(says.get("environment") or {})},
            folder=image.folder,
            mounts=self._mounts(says, image),
            log=self._logs / f"{name or service}.log",
        )

    def up(self, service: str) -> Container:
        """Until it is told to stop. Raises Failed if it ends at once."""
        self.running[service] = self.start(service)
        return self.running[service]

    def once(self, service: str, *more: str, timeout_s: float = 120) -> str:
        """What it printed. Raises Failed."""
        container = self.start(service, *more, name=f"{service}-once")
        try:
            code = container.wait(timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            container.kill()
            raise Failed(f"{service} {' '.join(more)}: did not end\n{container.end_of_log()}") from None
        if code != 0:
            raise Failed(f"{service} {' '.join(more)}: ended with {code}\n{container.end_of_log()}")
        return container.log.read_text()

    def wait_until(self, service: str, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Raises Failed when it ends, or is too slow."""
        container, deadline = self.running[service], time.monotonic() + timeout_s
        while not ready():
            if container.exit_code is not None or time.monotonic() > deadline:
                raise Failed(f"{service}: not ready\n{container.end_of_log()}")
            time.sleep(POLL_S)

    def is_healthy(self, service: str) -> bool:
        """By the health check of docker-compose.yml, run in the service's image."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        if kind != "CMD":
            raise Failed(f"{service}: a health check of the kind {kind}")
        return self.start(service, words=words, name=f"{service}-health").wait(timeout_s=30) == 0

    def stop(self, service: str) -> tuple[int, float]:
        """The exit code and the seconds that it took. Raises Failed when it needs longer than its grace, or ends badly.

        143 is well too: uvicorn shuts down, and then lets the signal that it caught end it.
        """
        container = self.running.pop(service)
        grace = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", self.services[service].get("stop_grace_period", "10s"))
        if grace is None:
            raise Failed(f"{service}: {self.services[service]['stop_grace_period']} is no number of seconds")
        if not container.catches(signal.SIGTERM):
            raise Failed(f"{service} does not listen for SIGTERM")
        started_at = time.monotonic()
        container.terminate()
        try:
            code = container.wait(timeout_s=int(grace[1] or 0) * 60 + int(grace[2] or 0))
        except subprocess.TimeoutExpired:
            container.kill()
            raise Failed(f"{service}: did not stop in {grace[0]}\n{container.end_of_log()}") from None
        if code not in (0, ENDED_BY_SIGTERM):
            raise Failed(f"{service}: ended with {code} after SIGTERM\n{container.end_of_log()}")
        return code, time.monotonic() - started_at

    def kill(self) -> None:
        for container in self.running.values():
            container.kill()

    def _mounts(self, says: dict[str, Any], image: Image) -> Mounts:
        read_only = {"/etc/hosts": self._hosts}
        for secret in says.get("secrets") or []:
            read_only[f"/run/secrets/{secret['source']}"] = self._folder / "secrets" / secret["source"]
        volumes = {each["target"]: self._volume(each["source"], image) for each in says.get("volumes", [])}
        return Mounts(read_only, volumes, [each.split(":")[0] for each in says.get("tmpfs", [])])

    def _volume(self, name: str, image: Image) -> Path:
        folder = self._folder / "volumes" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            os.chown(folder, image.user, image.user)  # an empty volume takes its owner from the image's folder
        return folder
