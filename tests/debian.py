"""Programs from Debian's packages, for tests and benchmarks: installed ones, or unpacked, which needs no root."""

import shutil
import subprocess
from pathlib import Path

UNPACKED = Path(__file__).resolve().parents[1] / ".flywheel/debian"
PACKAGES = {
    "initdb": ("postgresql-15", "libpq5", "libicu72", "libxml2", "libldap-2.5-0"),
    "nginx": ("nginx",),
    "postgres": ("postgresql-15", "libpq5", "libicu72", "libxml2", "libldap-2.5-0"),
    "prometheus": ("prometheus",),
    "promtool": ("prometheus",),
    "wrk": ("wrk", "libluajit-5.1-2"),
}
SYSTEM = "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin"


class NotToBeHad(RuntimeError):
    """The program is neither installed nor in a package that this machine can reach."""


def program(name: str) -> list[str]:
    """Its command. Raises NotToBeHad with what to do."""
    if (installed := shutil.which(name, path=SYSTEM)) is not None:
        return [installed]
    found = _unpacked(name) or _unpack(name)
    libraries = [str(folder) for folder in UNPACKED.glob("usr/lib/*-linux-gnu")]
    return ["env", f"LD_LIBRARY_PATH={':'.join(libraries)}", str(found)]


def _unpacked(name: str) -> Path | None:
    places = (f"usr/*bin/{name}", f"usr/lib/postgresql/*/bin/{name}")
    return next((found for place in places for found in UNPACKED.glob(place)), None)


def _unpack(name: str) -> Path:
    downloads = UNPACKED / "packages"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        if not _download(name, downloads, options=()):
            _download(name, downloads, options=_own_package_lists(), check=True)
        for package in PACKAGES[name]:
            archive = next(downloads.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg", "--extract", str(archive), str(UNPACKED)], check=True)
    except (OSError, StopIteration, subprocess.CalledProcessError) as error:
        raise _not_to_be_had(name, error) from None
    if (found := _unpacked(name)) is None:
        raise _not_to_be_had(name, "its package does not hold it")
    return found


def _not_to_be_had(name: str, reason: object) -> NotToBeHad:
    return NotToBeHad(f"{name} is missing ({reason}). Run `apt-get install {PACKAGES[name][0]}`.")


def _download(name: str, folder: Path, *, options: tuple[str, ...], check: bool = False) -> bool:
    command = ["apt-get", *options, "download", "-qq", *PACKAGES[name]]
    return subprocess.run(command, cwd=folder, check=check, capture_output=True).returncode == 0


def _own_package_lists() -> tuple[str, ...]:
    """A machine that has never run `apt-get update` knows no packages; lists of our own need no root."""
    lists, cache = UNPACKED / "lists", UNPACKED / "cache"
    for folder in (lists / "partial", cache / "archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    options = ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}")
    subprocess.run(["apt-get", *options, "update", "-qq"], check=True, capture_output=True)
    return options
