"""Programs from Debian's packages, for tests and benchmarks: installed ones, or unpacked, which needs no root."""

import shutil
import subprocess
from pathlib import Path

UNPACKED = Path(__file__).resolve().parents[1] / ".flywheel/debian"
PACKAGES = {
    "nginx": ("nginx",),
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
    found = next(UNPACKED.glob(f"usr/*bin/{name}"), None) or _unpack(name)
    libraries = [str(folder) for folder in UNPACKED.glob("usr/lib/*-linux-gnu")]
    return ["env", f"LD_LIBRARY_PATH={':'.join(libraries)}", str(found)]


def _unpack(name: str) -> Path:
    downloads = UNPACKED / "packages"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        if not _download(name, downloads, options=()):
            _download(name, downloads, options=_own_package_lists(), check=True)
        for package in PACKAGES[name]:
            archive = next(downloads.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg", "--extract", str(archive), str(UNPACKED)], check=True)
        return next(UNPACKED.glob(f"usr/*bin/{name}"))
    except (OSError, StopIteration, subprocess.CalledProcessError) as error:
        raise NotToBeHad(f"{name} is missing ({error}). Run `apt-get install {PACKAGES[name][0]}`.") from None


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
