"""Writes that leave together: nothing is late, out of order, or held without bound."""

import asyncio

from gateway.relay.writes import FEW, MOST_HELD_BYTES, WriteTurn


class RecordingTransport(asyncio.WriteTransport):
    def __init__(self, written: list[tuple[str, bytes]], name: str) -> None:
        super().__init__()
        self._written = written
        self._name = name

    def write(self, data) -> None:
        self._written.append((self._name, bytes(data)))


async def test_a_lone_exchange_writes_at_once():
    written = []
    WriteTurn().write(RecordingTransport(written, "a"), b"1", in_progress=FEW - 1)
    assert written == [("a", b"1")]


async def test_with_many_exchanges_the_writes_of_a_turn_leave_at_its_end_in_their_order():
    written, turn = [], WriteTurn()
    a, b = RecordingTransport(written, "a"), RecordingTransport(written, "b")

    turn.write(a, b"1", in_progress=FEW)
    turn.write(b, b"2", in_progress=FEW)
    turn.write(a, b"3", in_progress=FEW)
    assert written == []

    await asyncio.sleep(0)
    assert written == [("a", b"1"), ("b", b"2"), ("a", b"3")]


async def test_a_write_never_overtakes_one_that_is_held():
    written, turn = [], WriteTurn()
    transport = RecordingTransport(written, "a")

    turn.write(transport, b"1", in_progress=FEW)
    turn.write(transport, b"2", in_progress=1)

    await asyncio.sleep(0)
    assert written == [("a", b"1"), ("a", b"2")]


async def test_a_flush_leaves_nothing_to_be_written_twice():
    written, turn = [], WriteTurn()
    turn.write(RecordingTransport(written, "a"), b"1", in_progress=FEW)
    turn.flush()
    await asyncio.sleep(0)
    assert written == [("a", b"1")]


async def test_no_more_than_the_bound_is_held():
    written, turn = [], WriteTurn()
    transport = RecordingTransport(written, "a")
    turn.write(transport, b"x" * MOST_HELD_BYTES, in_progress=FEW)
    assert written == []
    turn.write(transport, b"y", in_progress=FEW)
    assert len(written) == 2
