"""What the gateway looks for in a stream, however the bytes are cut."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.sse import EventFilter, UsageTail


def event(content: str, **fields: object) -> bytes:
    choices = [{"index": 0, "delta": {"content": content}}]
    return b"data: " + json.dumps({"choices": choices, **fields}, separators=(",", ":")).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"total_tokens":8,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
TRICKY = '"choices":[] and "usage":{"total_tokens":99} data: {"error"\n\n'


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(bounds) if start < end]


@given(st.lists(st.text(max_size=20) | st.just(TRICKY), max_size=8), st.lists(st.integers(0, 10_000), max_size=30))
def test_only_the_usage_event_is_hidden_wherever_the_bytes_are_cut(contents: list[str], places: list[int]):
    visible = b"".join(event(content) for content in contents)
    events, tail = EventFilter(hide_usage=True), UsageTail()

    passed = b""
    for chunk in cut(visible + USAGE + DONE, places):
        tail.feed(chunk)
        passed += events.feed(chunk)
    passed += events.finish()

    assert passed == visible + DONE
    assert tail.usage().total_tokens == 8


@given(st.lists(st.text(max_size=20) | st.just(TRICKY), max_size=8), st.lists(st.integers(0, 10_000), max_size=30))
def test_nothing_is_changed_for_those_who_asked_for_usage(contents: list[str], places: list[int]):
    stream = b"".join(event(content) for content in contents) + USAGE + DONE
    events = EventFilter(hide_usage=False)

    assert b"".join(map(events.feed, cut(stream, places))) + events.finish() == stream
    assert not events.failed


@given(st.lists(st.integers(0, 10_000), max_size=10))
def test_an_engines_error_event_is_replaced(places: list[int]):
    stream = event("Hello") + b'data: {"error": {"message": "CUDA at /usr/lib/x.py", "code": 500}}\n\n' + DONE
    events = EventFilter(hide_usage=False)

    passed = b"".join(map(events.feed, cut(stream, places))) + events.finish()

    assert events.failed
    assert b"CUDA" not in passed
    assert b'"code":"engine_error"' in passed
    assert passed.startswith(event("Hello"))


def test_usage_in_the_text_of_an_answer_is_not_usage():
    tail = UsageTail()
    tail.feed(event('"usage":{"total_tokens":99}'))

    assert tail.usage() is None
