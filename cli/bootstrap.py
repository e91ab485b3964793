"""Makes the environments of the services from their locks: `python3.11 cli/bootstrap.py cli gateway engine worker`.

Runs before anything is installed, so it uses nothing but Python's standard library. Each service gets an environment
of its own, `.flywheel/envs/<service>`, as it gets an image of its own in production. An environment whose stamp names
the lock as it is now is left alone, which costs milliseconds.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

REPOSITORY = Path(__file__).resolve().parents[1]
NEEDED_PYTHON = (3, 11)
NVIDIA_DEVICE = Path("/dev/nvidia0")
SERVICES = (
    *("cli", "gateway", "engine", "worker", "compress"),
    *("dev", "loadtest", "dashboards", "peers", "deploy", "policies"),
)
CPU_TORCH_SERVICES = ("engine", "worker", "compress")


class BootstrapError(Exception):
    """Why the environments cannot be made, and what to do about it."""


@dataclass(frozen=True)
class PackageSources:
    """What pip on this machine is told about where packages are, so that uv looks there too."""

    index_url: str | None = None
    find_links: tuple[str, ...] = ()

    def offer_torch(self) -> bool:
        """Whether a wheel source of this machine may hold torch: a folder with its wheel, or any web page."""
        return any(_may_hold_torch(location) for location in self.find_links)


class Bootstrap:
    def __init__(self, repository: Path = REPOSITORY) -> None:
        self._repository = repository
        self._flywheel = repository / ".flywheel"
        self.uv = self._flywheel / "tools" / "bin" / "uv"

    def make(self, services: Sequence[str]) -> None:
        """Makes the environments that are missing or out of date. Raises BootstrapError."""
        stale = [service for service in services if not self._is_current(service)]
        if not stale:
            return
        check_python()
        self._flywheel.mkdir(exist_ok=True)
        with (self._flywheel / "bootstrap.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second `make up` waits for the first
            self.make_tools()
            sources = self.package_sources()
            for service in stale:
                if not self._is_current(service):
                    self._make_environment(service, sources)

    def environment(self, service: str) -> Path:
        return self._flywheel / "envs" / service

    def lock_of(self, service: str) -> Path:
        name = "engine-cuda" if service == "engine" and NVIDIA_DEVICE.exists() else service
        return self._repository / "locks" / f"{name}.txt"

    def stamp_of(self, service: str) -> str:
        """Names everything an environment is made from: the lock, this file, and where the repository lies."""
        parts = (self.lock_of(service).read_bytes(), Path(__file__).read_bytes(), str(self._repository).encode())
        return "\n".join(hashlib.sha256(part).hexdigest() for part in parts)

    def _is_current(self, service: str) -> bool:
        return _read(self.environment(service) / "flywheel.stamp") == self.stamp_of(service)

    def make_tools(self) -> None:
        """Makes sure of uv, in the version that locks/tools.txt pins."""
        lock = self._repository / "locks" / "tools.txt"
        stamp, wanted = self._flywheel / "tools" / "flywheel.stamp", hashlib.sha256(lock.read_bytes()).hexdigest()
        if _read(stamp) == wanted and self.uv.exists():
            return
        started_at = time.monotonic()
        folder = self._flywheel / "tools"
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)], "make the environment of uv")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run([*pip, "--require-hashes", "--requirement", str(lock)], "install uv")
        stamp.write_text(wanted)
        _say("tools", started_at)

    def package_sources(self) -> PackageSources:
        """Needs the tools, whose pip reads its configuration."""
        pip = [str(self._flywheel / "tools" / "bin" / "python"), "-m", "pip", "config", "list"]
        listed = subprocess.run(pip, capture_output=True, text=True, check=False)
        return parse_pip_config(listed.stdout)

    def _make_environment(self, service: str, sources: PackageSources) -> None:
        started_at = time.monotonic()
        folder, lock = self.environment(service), self.lock_of(service)
        python = folder / "bin" / "python"
        if sys.stdout.isatty():
            print(f"  {service:<10} installing {_count_packages(lock)} packages …", end="\r", flush=True)
        (folder / "flywheel.stamp").unlink(missing_ok=True)
        if not python.exists():
            make = [str(self.uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
            _run(make, f"make the environment of {service}", uv_settings(sources))
        sync = [str(self.uv), "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock)]
        if sys.dont_write_bytecode:  # else each process compiles what it imports anew: of vLLM three, 15 s each
            sync.append("--compile-bytecode")
        if service in CPU_TORCH_SERVICES and lock.stem == service and not sources.offer_torch():
            sync += ["--torch-backend", "cpu"]
        _run(sync, f"install the packages of {service}", uv_settings(sources))
        self._add_project(folder)
        (folder / "flywheel.stamp").write_text(self.stamp_of(service))
        _say(service, started_at)

    def _add_project(self, folder: Path) -> None:
        """Puts the repository on the environment's path, and `flywheel` beside its Python."""
        site_packages = folder / "lib" / f"python{NEEDED_PYTHON[0]}.{NEEDED_PYTHON[1]}" / "site-packages"
        (site_packages / "flywheel.pth").write_text(f"{self._repository}\n")
        command = folder / "bin" / "flywheel"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(str(folder / "bin" / "python"))} -m cli "$@"\n')
        command.chmod(0o755)


def check_python() -> None:
    """Raises BootstrapError where this Python cannot make the environments."""
    if sys.version_info[:2] != NEEDED_PYTHON:
        raise BootstrapError(
            f"This is Python {sys.version.split()[0]} ({sys.executable}), and Flywheel's packages are for Python 3.11."
            " Install Python 3.11 and run `make up PYTHON=/path/to/python3.11`."
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise BootstrapError(
            f"{sys.executable} has no venv, which makes the services' environments."
            " On Debian and Ubuntu: `sudo apt install python3.11-venv`; then run `make up` again."
        ) from None


def parse_pip_config(listed: str) -> PackageSources:
    """Reads the answer of `pip config list`, which holds pip's files and its environment variables."""
    index_url, find_links = None, []
    for line in listed.splitlines():
        name, _, quoted = line.partition("=")
        value = quoted.strip().strip("'\"")
        option = name.strip().rpartition(".")[2]
        if option == "index-url":
            index_url = value
        elif option == "find-links":
            find_links += [location for location in value.split() if location not in find_links]
    return PackageSources(index_url, tuple(find_links))


def uv_settings(sources: PackageSources) -> dict[str, str]:
    """The environment for uv. What the user set for uv itself wins."""
    settings = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    if sources.find_links:
        settings["UV_FIND_LINKS"] = ",".join(sources.find_links)
    if sources.index_url is not None:
        settings["UV_DEFAULT_INDEX"] = sources.index_url
    return settings | dict(os.environ)


def _may_hold_torch(location: str) -> bool:
    address = urlparse(location)
    if address.scheme in ("http", "https"):
        return True
    folder = Path(url2pathname(address.path) if address.scheme == "file" else location)
    return any(folder.glob("torch-*+cpu-*.whl"))


def _run(command: list[str], purpose: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()[-15:]
        raise BootstrapError(
            f"Could not {purpose}:\n  " + "\n  ".join(told) + "\nCheck that the package registry can be reached"
            " and that the disk has room, then run the same command again: it goes on where it stopped."
        )


def _say(name: str, started_at: float) -> None:
    print(f"  {name:<10} ready in {time.monotonic() - started_at:.1f} s".ljust(50), flush=True)


def _read(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None


def _count_packages(lock: Path) -> int:
    return sum("==" in line and not line.startswith((" ", "#")) for line in lock.read_text().splitlines())


def main(arguments: Sequence[str]) -> int:
    if unknown := sorted(set(arguments) - set(SERVICES)):
        print(f"error: no such service: {', '.join(unknown)}\nusage: bootstrap.py SERVICE…", file=sys.stderr)
        print(f"services: {', '.join(SERVICES)}", file=sys.stderr)
        return 2
    try:
        Bootstrap().make(arguments)
    except BootstrapError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
