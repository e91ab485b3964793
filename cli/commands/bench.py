"""`flywheel bench`: latency and throughput of any OpenAI-compatible URL.

What it measures with is imported when it is used, because the HTTP client's import takes longer than most commands.
"""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import CliError
from cli.instructions import TEXT_MODEL
from cli.local_stack import Endpoint, find_endpoint
from cli.tables import make_table, print_table

LATENCIES = ("time_to_first_token_s", "time_between_tokens_s", "latency_s")


def bench(
    url: Annotated[str | None, typer.Option(help="Base URL, with /v1; the local stack's by default.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Its key.", envvar="FLYWHEEL_BENCH_API_KEY")] = None,
    model: Annotated[str, typer.Option(help="The model to ask.")] = TEXT_MODEL,
    concurrency: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Requests at once; repeat for several levels; 1, 4 and 16 by default."),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each level.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Write a picture too, as SVG.")] = None,
) -> None:
    """Measure time to first token, time between tokens and tokens a second."""
    from cli.benchmark.load import Target, run_level
    from cli.benchmark.plot import plot
    from cli.benchmark.summary import answered, summarise

    if plot_file is not None and plot_file.suffix != ".svg":
        raise CliError(f"{plot_file} is no SVG file.", advice="Name it for example bench.svg.")
    endpoint = Endpoint(url.rstrip("/"), api_key or "none") if url else find_endpoint()
    target = Target(endpoint.base_url, api_key or endpoint.api_key, model, max_tokens)
    levels = []
    for number in concurrency or [1, 4, 16]:
        if not as_json:
            typer.echo(f"{requests} requests, {number} at once …", err=True)
        levels.append(asyncio.run(run_level(target, concurrency=number, requests=requests)))
        if not answered(levels[-1]):
            raise CliError(f"No answer from {target.base_url}: {levels[-1].answers[0].failure}")
    found = [summarise(level) for level in levels]
    if plot_file is not None:
        plot_file.write_text(plot(levels, f"{model}, {max_tokens} tokens at most, {requests} requests a level"))
    if as_json:
        typer.echo(json.dumps({"url": target.base_url, "model": model, "max_tokens": max_tokens, "levels": found}))
        return
    _print(found)


def _print(levels: list[dict[str, Any]]) -> None:
    """Latencies as p50 / p90 / p99, in milliseconds."""
    table = make_table("at once", "tokens/s", "requests/s", "first token", "between tokens", "whole answer", "failures")
    for level in levels:
        latencies = (" / ".join(_milliseconds(value) for value in level[name].values()) for name in LATENCIES)
        rates = (str(level["output_tokens_per_s"]), str(level["requests_per_s"]))
        table.add_row(str(level["concurrency"]), *rates, *latencies, str(level["failures"] or ""))
    print_table(table)
    typer.echo("\nLatencies are p50 / p90 / p99, in milliseconds.")
    for reason in dict.fromkeys(reason for level in levels for reason in level["failure_reasons"]):
        typer.echo(f"failed: {reason}", err=True)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}" if seconds < 1 else f"{seconds * 1000:,.0f}"
