"""One concurrency of `flywheel bench`, for benchmarks that count on every answer."""

import asyncio
from typing import Any

from cli.benchmark.load import Target, run_level
from cli.benchmark.summary import summarise


def measure_level(target: Target, *, concurrency: int, requests: int) -> dict[str, Any]:
    """What `summarise` tells. Raises RuntimeError where a request is not answered."""
    level = summarise(asyncio.run(run_level(target, concurrency=concurrency, requests=requests)))
    if reasons := level["failure_reasons"]:
        raise RuntimeError(f"Not all requests were answered: {reasons}")
    return level
