"""The benchmark's own instruments: what they count, and that they notice what is missing."""

from contextlib import ExitStack

import pytest

from loadtests.peers.effort import Effort
from loadtests.peers.gateway import GatewayUnderTest
from loadtests.peers.real_engine import FIGURE, measure_real_engine
from loadtests.peers.rounds import Pair, by_turns, compare, compare_added
from loadtests.peers.servers import Server, Servers
from loadtests.peers.stream_client import Load, StreamFailed, run_load

EFFORT = Effort(rounds=1, wrk_s=1, wrk_alone_s=1, streams_s=0.1, open_streams=(), chunks_per_open_stream=1)


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def engine(tmp_path, stack) -> Server:
    return Servers(tmp_path, stack).stream_engine()


def test_ours_and_a_peer_are_measured_by_turns():
    ours, peer = Server("ours", "", "", 0), Server("peer", "", "", 0)
    order = []

    by_turns(lambda server: order.append(server.name) or {}, ours, [peer], rounds=3)

    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]


def test_a_slow_moment_of_the_machine_does_not_move_the_ratio():
    pairs = [Pair("peer", {"x": 50.0}, {"x": 100.0}), Pair("peer", {"x": 5.0}, {"x": 10.0})]
    pairs.append(Pair("peer", {"x": 40.0}, {"x": 80.0}))

    assert compare(pairs, "x") == {"ours": 40.0, "peer": 80.0, "ratio": {"peer": 0.5}}


def test_there_is_no_ratio_to_a_peer_that_adds_nothing():
    assert compare_added([Pair("peer", {"x": 0.2}, {"x": -0.01})], "x")["ratio"] == {"peer": None}


def test_the_client_sees_every_event_and_its_pace(engine: Server):
    seen = run_load(engine, Load(streams=3, chunks=5, gap_ms=30))

    assert (seen.completed, seen.most_open, seen.events) == (3, 3, 15)
    assert sorted(seen.gaps_s)[len(seen.gaps_s) // 2] == pytest.approx(0.03, abs=0.01)
    assert all(0 < delay < 0.03 for delay in seen.delays_s)


def test_the_client_reports_a_stream_that_breaks_off(tmp_path, stack):
    engine_stack = stack.enter_context(ExitStack())
    engine = Servers(tmp_path, engine_stack).stream_engine()

    with pytest.raises(StreamFailed, match="connection lost"):
        run_load(engine, Load(streams=2, chunks=100, gap_ms=20), when_all_open=engine_stack.close)


def test_the_gateway_under_test_passes_every_event_on(engine: Server, tmp_path, stack):
    ours = GatewayUnderTest(engine.url, tmp_path / "gateway", stack).server

    seen = run_load(ours, Load(streams=20, chunks=10, gap_ms=10))

    assert (seen.completed, seen.events) == (20, 200)


@pytest.mark.parametrize(("tokens", "complete"), [(64, True), (63, False)])
def test_a_missing_token_of_a_real_engine_is_no_speed(start_fake_engine, tokens: int, complete: bool):
    fake = start_fake_engine()
    fake.behaviour(tokens=tokens)
    engine = Server("straight", fake.url, "none", fake.process.pid)

    if complete:
        assert measure_real_engine(engine, engine, EFFORT)[FIGURE]["ours"] > 0
    else:
        with pytest.raises(RuntimeError, match="63 of 64"):
            measure_real_engine(engine, engine, EFFORT)
