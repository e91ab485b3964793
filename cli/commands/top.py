"""`flywheel top`: the engines, the queue and the tenants, live."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.local_stack import find_endpoint
from cli.tables import WIDE, make_table
from cli.terminal import console
from contracts.fleet import EngineStatus

if TYPE_CHECKING:
    from cli.snapshot import Snapshot

INTERVAL_S = 2.0
COLOURS = {"live": "green", "ejected": "red", "draining": "yellow"}


def top(
    once: Annotated[bool, typer.Option("--once", help="Print how it is now, in totals, and end.")] = False,
) -> None:
    """Watch engines, load, KV cache, prefix hits, queue and tenants. Needs a key of scope admin; Ctrl-C ends it."""
    from cli.snapshot import Gateway  # its HTTP client's import takes longer than most commands

    gateway = Gateway(find_endpoint())
    now = gateway.snapshot()
    if once:
        console(width=None if console().is_terminal else WIDE).print(render(now, None))
        return
    with Live(render(now, None), console=console(), screen=console().is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(INTERVAL_S)
            before, now = now, gateway.snapshot()
            live.update(render(now, before), refresh=True)


def render(now: "Snapshot", before: "Snapshot | None") -> Group:
    """With what was `before`, rates since then; without, totals since the gateway or the engine started."""
    engines = make_table(
        "engine", "model", "state", "requests", "ours", "waiting", "KV cache", "prefix hits", "adapters"
    )
    earlier = {engine.id: engine for engine in before.engines} if before else {}
    for engine in sorted(now.engines, key=lambda engine: (engine.model, engine.id)):
        engines.add_row(
            engine.id,
            engine.model,
            Text(engine.state, COLOURS[engine.state]),
            f"{engine.running} of {engine.capacity}",
            str(engine.in_flight),
            str(engine.waiting),
            f"{engine.kv_cache_usage:.0%}",
            _prefix_hits(engine, earlier.get(engine.id)),
            str(len(engine.adapters) or ""),
        )
    return Group(_summary(now, before), Text(), engines, Text(), _tenants(now, before))


def _summary(now: "Snapshot", before: "Snapshot | None") -> Text:
    def since(name: str) -> float:
        return now.counts.get(name, 0.0) - (before.counts.get(name, 0.0) if before else 0.0)

    def amount(name: str, unit: str) -> str:
        if before is None:
            return f"{since(name):,.0f} {unit}"
        return f"{since(name) / (now.taken_at - before.taken_at):,.1f} {unit}/s"

    hits, looked_up = since("cache_hit"), since("cache_hit") + since("cache_miss")
    parts = [
        amount("flywheel_requests_total", "requests"),
        amount("flywheel_tokens_total", "tokens"),
        "time to first token " + _mean(since, "flywheel_time_to_first_token_seconds"),
        f"cache {_share(hits, looked_up)}",
        f"queue {now.counts.get('flywheel_queue_length', 0):.0f}",
        "wait " + _mean(since, "flywheel_queue_wait_seconds"),
        f"refused {since('flywheel_queue_refused_total'):.0f}",
    ]
    return Text(" · ".join(parts))


def _tenants(now: "Snapshot", before: "Snapshot | None") -> Table:
    table = make_table("tenant", "in flight", "waiting", "tokens", "tokens/s")
    earlier = {tenant.tenant: tenant.tokens for tenant in before.tenants} if before else {}
    for tenant in sorted(now.tenants, key=lambda tenant: (-tenant.in_flight - tenant.waiting, -tenant.tokens)):
        rate = ""
        if before is not None:
            rate = f"{(tenant.tokens - earlier.get(tenant.tenant, 0)) / (now.taken_at - before.taken_at):,.1f}"
        table.add_row(tenant.tenant, str(tenant.in_flight), str(tenant.waiting), f"{tenant.tokens:,}", rate)
    return table


def _prefix_hits(engine: EngineStatus, earlier: EngineStatus | None) -> str:
    if earlier is None:
        return _share(engine.prefix_hits, engine.prefix_queries)
    return _share(engine.prefix_hits - earlier.prefix_hits, engine.prefix_queries - earlier.prefix_queries)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole > 0 else "–"


def _mean(since: Callable[[str], float], histogram: str) -> str:
    count = since(f"{histogram}_count")
    return f"{since(f'{histogram}_sum') / count:.3f} s" if count > 0 else "–"
