"""`flywheel top` against a real gateway."""

import io
import os
import pty
import select
import signal
import subprocess
from collections import defaultdict

import pytest
from rich.console import Console

from cli.commands.top import render
from cli.snapshot import Snapshot, count_metrics
from contracts.engine import EngineLoad
from contracts.fleet import EngineStatus, TenantStatus
from tests.cli.conftest import Flywheel
from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess
from tests.processes import ROOT, python


@pytest.fixture
def busy(gateway: GatewayProcess, fake_engine: FakeEngineProcess, lease: LeaseGiver) -> dict[str, str]:
    """The environment that leads to a gateway with one engine at work."""
    load = EngineLoad(running=3, waiting=2, kv_cache_usage=0.25, prefix_queries=200, prefix_hits=50)
    lease(fake_engine, engine="engine-of-top", capacity=16, load=load)
    return {
        "FLYWHEEL_BASE_URL": gateway.base_url,
        "FLYWHEEL_API_KEY": gateway.new_key(scopes=("admin",)).secret,
    }


def test_once_prints_engines_and_ends(flywheel: Flywheel, busy: dict[str, str]):
    for _ in range(20):
        done = flywheel("top", "--once", **busy)
        if "engine-of-top" in done.stdout:
            break
    row = next(line for line in done.stdout.splitlines() if line.startswith("engine-of-top"))
    assert row.split()[2:] == ["live", "3", "of", "16", "0", "2", "25%", "25%"]
    assert "queue 0" in done.stdout
    assert "tenant" in done.stdout


def test_in_a_terminal_it_goes_on_until_it_is_interrupted(busy: dict[str, str]):
    ours, theirs = pty.openpty()
    environment = os.environ | busy | {"COLUMNS": "200", "LINES": "50", "TERM": "xterm"}
    with subprocess.Popen(
        python("-m", "cli", "top"),
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (a background job ignores it)
    ) as shown:
        os.close(theirs)
        try:
            seen = _read_until(ours, b"requests/s", timeout_s=20)
            assert shown.poll() is None
            shown.send_signal(signal.SIGINT)
            seen += _read_until(ours, b"", timeout_s=10)
            assert shown.wait(10) == 130
        finally:
            shown.kill()
    os.close(ours)
    assert b"Traceback" not in seen


def _read_until(terminal: int, wanted: bytes, *, timeout_s: float) -> bytes:
    """What comes until `wanted` is in it, or with b"" until the program ends."""
    seen = b""
    while not wanted or wanted not in seen:
        assert select.select([terminal], [], [], timeout_s)[0], seen.decode(errors="replace")
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # Linux: the program has closed the terminal
            break
    return seen


def test_a_key_without_the_scope_is_told_so(flywheel: Flywheel, gateway: GatewayProcess):
    key = gateway.new_key(scopes=("inference",)).secret
    done = flywheel("top", "--once", FLYWHEEL_BASE_URL=gateway.base_url, FLYWHEEL_API_KEY=key)
    assert done.returncode == 1
    assert "scope `admin`" in done.stderr


def snapshot(at: float, *, hits: int, tokens: int, **counts: float) -> Snapshot:
    engine = EngineStatus(
        id="engine-1",
        model="m",
        adapters=[],
        state="live",
        capacity=4,
        in_flight=1,
        running=1,
        waiting=0,
        kv_cache_usage=0.5,
        prefix_queries=hits * 2,
        prefix_hits=hits,
    )
    tenant = TenantStatus(tenant="acme", in_flight=1, waiting=7, tokens=tokens)
    return Snapshot(at, [engine], [tenant], defaultdict(float, counts))


def test_rates_are_of_the_time_between_two_looks():
    before = snapshot(10.0, hits=100, tokens=1000, flywheel_requests_total=50, cache_hit=10, cache_miss=10)
    now = snapshot(12.0, hits=150, tokens=1500, flywheel_requests_total=70, cache_hit=13, cache_miss=11)
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(render(now, before))
    text = console.export_text()
    assert "10.0 requests/s" in text
    assert "cache 75%" in text
    assert next(line for line in text.splitlines() if "acme" in line).split() == ["acme", "1", "7", "1,500", "250.0"]
    assert next(line for line in text.splitlines() if "engine-1" in line).split()[-2:] == ["50%", "50%"]


def test_counts_are_added_up_over_labels():
    counts = count_metrics(
        "# TYPE flywheel_cache_requests_total counter\n"
        'flywheel_cache_requests_total{result="hit"} 3.0\nflywheel_cache_requests_total{result="miss"} 1.0\n'
    )
    assert (counts["flywheel_cache_requests_total"], counts["cache_hit"], counts["cache_miss"]) == (4, 3, 1)
