"""Runs commands in the root of an image, by bubblewrap: as root to build it, as its user to run it, unable to write."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (a place that containers have)
TO_DROP_ROOT = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


@dataclass(frozen=True, slots=True)
class Mounts:
    """Folders and files of this machine by where the image sees them."""

    read_only: Mapping[str, Path] = field(default_factory=dict)
    writable: Mapping[str, Path] = field(default_factory=dict)
    in_memory: Sequence[str] = ()

    def options(self) -> list[str]:
        words = []
        for there, here in self.read_only.items():
            words += ["--ro-bind", str(here), there]
        for there, here in self.writable.items():
            words += ["--bind", str(here), there]
        for there in self.in_memory:
            words += ["--perms", "1777", "--tmpfs", there]
        return words

    def make_places(self, root: Path) -> None:
        """What is mounted needs a place, as a container engine makes it in the container's own layer."""
        for there, here in {**self.read_only, **self.writable}.items():
            place = root / there.lstrip("/")
            if here.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            elif not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()


def build_command(
    root: Path, words: Sequence[str], *, variables: Mapping[str, str], folder: str, mounts: Mounts
) -> list[str]:
    """As root, with this machine's network."""
    mounts.make_places(root)
    return [
        *("bwrap", "--bind", str(root), "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid", "--unshare-ipc"),
        *("--die-with-parent", "--cap-add", "ALL", *mounts.options()),
        *(*_environment(variables), "--chdir", folder, "--", *words),
    ]


class Container:
    """A process of an image: its user, no capability, nothing writable but what is mounted so."""

    def __init__(
        self,
        root: Path,
        words: Sequence[str],
        *,
        user: int,
        variables: Mapping[str, str],
        folder: str,
        mounts: Mounts,
        log: Path,
    ) -> None:
        mounts.make_places(root)
        self.log = log
        told, tells = os.pipe()
        command = [
            *("bwrap", "--ro-bind", str(root), "/", "--ro-bind", "/sys", "/sys", "--dev", "/dev", "--proc", "/proc"),
            *(
                "--perms",
                "1777",
                "--tmpfs",
                SHARED_MEMORY,
                "--die-with-parent",
                "--info-fd",
                str(tells),
                *mounts.options(),
            ),
            *(word for capability in TO_DROP_ROOT for word in ("--cap-add", capability)),
            *(*_environment(variables), "--chdir", folder, "--", "setpriv", f"--reuid={user}", f"--regid={user}"),
            *("--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--", *words),
        ]
        with log.open("ab") as output:
            self._bubblewrap = subprocess.Popen(command, stdout=output, stderr=output, pass_fds=[tells])
        os.close(tells)
        with os.fdopen(told) as pipe:
            self.pid = int(json.loads(pipe.read() or '{"child-pid": 0}')["child-pid"])

    @property
    def exit_code(self) -> int | None:
        return self._bubblewrap.poll()

    def wait(self, *, timeout_s: float) -> int:
        """Raises TimeoutExpired."""
        return self._bubblewrap.wait(timeout_s)

    def catches(self, number: signal.Signals) -> bool:
        """Whether the process does something of its own at this signal."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)

    def terminate(self) -> None:
        """As `docker stop` begins: SIGTERM to the process itself."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        self._bubblewrap.kill()
        self._bubblewrap.wait()

    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def _environment(variables: Mapping[str, str]) -> list[str]:
    words = ["--clearenv"]
    for name, value in {"PATH": DEFAULT_PATH, **variables}.items():
        words += ["--setenv", name, value]
    return words
