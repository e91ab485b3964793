"""`python -m loadtests.precision`: an engine that computes in 32 bits beside one that computes in 16, on this CPU.

Where the CPU has no instructions for bfloat16, `inference/precision.py` takes 32 bits: this is what that is worth. The
engines are started one after the other. Progress goes to stderr; the only line of stdout is one JSON object: medians
over the rounds, of tokens a second and of the time to first token in milliseconds.
"""

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from cli.benchmark.load import Target
from loadtests.catalogue import write_catalogue
from loadtests.levels import measure_level
from loadtests.shared_cpu import start_engine

DTYPES = ("bfloat16", "float32")
STREAMS, ROUNDS, REQUESTS_EACH = (1, 4, 16), 3, 4


def main() -> None:
    results = {}
    for dtype in DTYPES:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            catalogue = write_catalogue(Path(folder), dtype=dtype)
            target = start_engine(Path(folder), stack, {"FLYWHEEL_ENGINE__CATALOGUE": str(catalogue)})
            measure_level(target, concurrency=1, requests=2)
            results[dtype] = {f"{streams} at once": medians(target, streams) for streams in STREAMS}
        print(json.dumps(results), file=sys.stderr, flush=True)
    print(json.dumps(results), flush=True)


def medians(target: Target, streams: int) -> dict[str, float]:
    levels = [measure_level(target, concurrency=streams, requests=REQUESTS_EACH * streams) for _ in range(ROUNDS)]
    return {
        "tokens_per_s": round(median(level["output_tokens_per_s"] for level in levels), 1),
        "first_token_ms": round(1000 * median(level["time_to_first_token_s"]["p50"] for level in levels)),
    }


if __name__ == "__main__":
    main()
