"""`flywheel plan`: engines, memory and cost for a rate of requests and a time to first token."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError

HOURS_A_MONTH = 730


def plan(
    profile_file: Annotated[
        Path, typer.Option("--profile", help="What `flywheel bench --json` printed of one engine, at several levels.")
    ],
    model: Annotated[str, typer.Option(help="The model; the profile must be of it.")],
    rps: Annotated[float, typer.Option(min=0.001, help="Requests a second, in the mean.")],
    ttft_p99_ms: Annotated[float, typer.Option(min=1, help="Time to first token of 99 in 100, in milliseconds.")],
    engine_memory_gib: Annotated[
        float | None, typer.Option(min=0, help="Memory of one engine: weights, KV cache and what it runs in.")
    ] = None,
    engine_price: Annotated[float | None, typer.Option(min=0, help="Price of one engine an hour.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Tell how many engines keep a promise, and what they take."""
    from cli.planning.profile import Profile
    from cli.planning.stepping import Pace, engines_needed

    profile = Profile.read(profile_file)
    if profile.model != model:
        raise CliError(
            f"{profile_file} is a profile of {profile.model}, not of {model}.",
            advice=f"Measure it: `flywheel bench --model {model} --json`.",
        )
    need = engines_needed(Pace.of(profile), rps, ttft_p99_ms / 1000)
    figures: dict[str, object] = {
        "model": model,
        "engines": need.engines,
        "load": round(need.load, 3),
        "ttft_p99_ms": round(need.first_token_p99_s * 1000, 1),
    }
    if engine_memory_gib is not None:
        figures["memory_gib"] = round(need.engines * engine_memory_gib, 2)
    if engine_price is not None:
        figures["price_per_hour"] = round(need.engines * engine_price, 2)
        figures["price_per_month"] = round(need.engines * engine_price * HOURS_A_MONTH, 2)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    for name, value in figures.items():
        typer.echo(f"{name.replace('_', ' '):<22} {value}")
