"""`python -m loadtests.peers.stream_engine PORT`: an engine whose streams keep time, and that costs little itself.

A prompt that says `40 chunks, 20 ms apart` is answered with 40 events, each in an HTTP chunk and a write of its own;
`0 ms apart` sends one a loop turn, as fast as the reader takes them. The content of an event is the time at which it
was sent (monotonic clock, ns), so that a client on this machine sees what was added on the way.
"""

import asyncio
import re
import sys
import time
from pathlib import Path

import httptools
import uvloop

HOST = "127.0.0.1"
BACKLOG = 16384
ANSWER = (Path(__file__).parent / "answer.json").read_bytes().strip()
PACE = re.compile(rb"(\d+) chunks, (\d+) ms apart")
STREAM = re.compile(rb'"stream": ?true')
USAGE = re.compile(rb'"include_usage": ?true')
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"chatcmpl-8f14e45fceea167a","object":"chat.completion.chunk","created":1767225600,'
    b'"model":"smollm2-135m-instruct","choices":[{"index":0,"delta":{%b"content":"%d"},'
    b'"logprobs":null,"finish_reason":%b}]}\n\n'
)
USAGE_EVENT = (
    b'data: {"id":"chatcmpl-8f14e45fceea167a","object":"chat.completion.chunk","created":1767225600,'
    b'"model":"smollm2-135m-instruct","choices":[],'
    b'"usage":{"prompt_tokens":16,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
DONE = b"data: [DONE]\n\n"


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._chunks = self._sent = 0
        self._gap_s = self._started_at = 0.0
        self._usage = False
        self._open = True
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._open = False

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._next()

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        pace = PACE.search(self._body)
        if pace is None or STREAM.search(self._body) is None:
            self._transport.write(WHOLE)
            return
        self._chunks, self._sent = int(pace[1]), 0
        self._gap_s = int(pace[2]) / 1000
        self._usage = USAGE.search(self._body) is not None
        self._started_at = self._loop.time()
        self._transport.write(HEAD)
        self._next()

    # -- the stream

    def _next(self) -> None:
        if not self._open or self._paused or self._sent == self._chunks:
            return
        role = b'"role":"assistant",' if self._sent == 0 else b""
        self._sent += 1
        last = self._sent == self._chunks
        event = EVENT % (role, time.monotonic_ns(), b'"stop"' if last else b"null")
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        if last:
            self._end()
        elif self._gap_s:
            self._loop.call_at(self._started_at + self._sent * self._gap_s, self._next)
        else:
            self._loop.call_soon(self._next)

    def _end(self) -> None:
        rest = (USAGE_EVENT % (self._chunks, self._chunks + 16) if self._usage else b"") + DONE
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, HOST, port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        uvloop.run(serve(int(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(0)
