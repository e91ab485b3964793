"""Sends a kept answer again: a whole one at once, a stream event by event."""

from gateway.cache.flight import RESULT_HEADER
from gateway.cache.kept import KeptAnswer
from gateway.relay.exchange import Exchange, HeaderList

EVENT_STREAM = b"text/event-stream"
EVENT_END = b"\n\n"


async def replay(exchange: Exchange, answer: KeptAnswer, *, result: bytes, more: HeaderList | None = None) -> None:
    """`result` is told in the head, with the answer's `Age` (RFC 9111, 5.1)."""
    exchange.headers += [(RESULT_HEADER, result), (b"age", b"%d" % answer.age_s()), *(more or ())]
    content_type = (b"content-type", answer.content_type)
    if not answer.content_type.startswith(EVENT_STREAM):
        await exchange.send_whole(200, [content_type], answer.body)
        return
    await exchange.start(200, [content_type, (b"cache-control", b"no-cache")])
    *events, rest = answer.body.split(EVENT_END)
    for event in events:
        await exchange.write(event + EVENT_END)
    await exchange.finish(rest)
