"""HTTP/1.1 as clients really speak it: in pieces, ahead of time, oddly, or not to the end."""

import asyncio
import json
import random
import signal

import psutil
import pytest

from tests.gateway.conftest import CHAT, Serving, chat_body, wait_until

BODY = json.dumps(chat_body()).encode()


class RawClient:
    """A connection that sends what it is told to, byte by byte if need be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: str) -> None:
        self._reader = reader
        self._writer = writer
        self._secret = secret

    @classmethod
    async def connect(cls, serving: Serving) -> "RawClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.gateway.port)
        return cls(reader, writer, serving.gateway.new_key().secret)

    def request(
        self, body: bytes = BODY, *, path: str = CHAT, version: str = "1.1", secret: str | None = None, **headers: str
    ) -> bytes:
        fields = {
            "host": "flywheel",
            "authorization": f"Bearer {secret or self._secret}",
            "content-length": str(len(body)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"POST {path} HTTP/{version}", *(f"{name}: {value}" for name, value in fields.items() if value)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def send(self, data: bytes, pieces: int = 1) -> None:
        cuts = sorted(random.sample(range(1, len(data)), pieces - 1))
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            self._writer.write(data[start:end])
            await self._writer.drain()
            await asyncio.sleep(0.002)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        async with asyncio.timeout(20):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            if headers.get("transfer-encoding") == "chunked":
                body = await self._chunks()
            else:
                body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return body

    async def is_closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self._reader.read(1) == b""

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def raw(serving: Serving):
    client = await RawClient.connect(serving)
    yield client
    client.close()


@pytest.mark.parametrize("pieces", [1, 2, 7, 60])
async def test_a_request_in_pieces_is_one_request(raw: RawClient, pieces: int):
    for _ in range(3):
        await raw.send(raw.request(), pieces)
        status, headers, body = await raw.answer()
        assert (status, json.loads(body)["object"]) == (200, "chat.completion")
        assert headers["x-request-id"]


async def test_requests_sent_ahead_are_answered_in_their_order(raw: RawClient):
    ids = [f"ahead-{number}" for number in range(8)]
    await raw.send(b"".join(raw.request(x_request_id=name) for name in ids), 5)

    assert [(await raw.answer())[1]["x-request-id"] for _ in ids] == ids


async def test_other_routes_work_on_the_same_connection_and_after_them_ours_again(raw: RawClient):
    await raw.send(raw.request())
    assert (await raw.answer())[0] == 200
    await raw.send(b"GET /health/live HTTP/1.1\r\nhost: flywheel\r\n\r\n", 9)
    assert (await raw.answer())[0] == 200
    await raw.send(raw.request())
    assert (await raw.answer())[0] == 200


async def test_a_chunked_body_is_read(raw: RawClient):
    request = raw.request(b"", content_length="", transfer_encoding="chunked")
    await raw.send(request + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), 6)

    assert (await raw.answer())[0] == 200


async def test_a_client_that_waits_to_be_told_to_go_on_is_told(raw: RawClient):
    request = raw.request(expect="100-continue")
    await raw.send(request.removesuffix(BODY))
    assert (await raw.answer())[0] == 100
    await raw.send(BODY)
    assert (await raw.answer())[0] == 200


async def test_http_1_0_gets_a_whole_answer_and_a_closed_connection(raw: RawClient):
    await raw.send(raw.request(version="1.0"))

    assert (await raw.answer())[0] == 200
    assert await raw.is_closed()


async def test_a_connection_is_closed_when_the_client_asks_for_it(raw: RawClient):
    await raw.send(raw.request(connection="close"))
    status, headers, _ = await raw.answer()

    assert (status, headers["connection"]) == (200, "close")
    assert await raw.is_closed()


async def test_a_refusal_does_not_wait_for_the_body_and_the_connection_lives_on(raw: RawClient):
    big = json.dumps(chat_body("x" * 200_000)).encode()
    request = raw.request(big, secret="sk-fw-wrong")
    await raw.send(request[:1000])
    assert (await raw.answer())[0] == 401
    await raw.send(request[1000:])
    await raw.send(raw.request())
    assert (await raw.answer())[0] == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost flywheel\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n{}{}{",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
async def test_what_is_not_http_is_refused_and_closed(raw: RawClient, garbage: bytes):
    await raw.send(garbage)

    assert (await raw.answer())[0] == 400
    assert await raw.is_closed()


async def test_a_head_without_end_is_refused(raw: RawClient):
    await raw.send(b"POST /v1/chat/completions HTTP/1.1\r\n" + b"x-filler: 1\r\n" * 20_000)

    status, _, body = await raw.answer()
    assert (status, json.loads(body)["error"]["code"]) == (431, "request_header_fields_too_large")
    assert await raw.is_closed()


async def test_a_body_that_breaks_off_reaches_no_engine(serving: Serving, raw: RawClient):
    await raw.send(raw.request()[:-5])
    raw.close()
    other = await RawClient.connect(serving)
    await other.send(other.request())
    await other.answer()
    other.close()

    assert len(serving.engine.requests()) == 1


async def test_a_stop_lets_the_answer_end_and_then_closes(serving: Serving, raw: RawClient):
    serving.engine.behaviour(time_between_tokens_s=0.2)
    streamed = json.dumps(chat_body(stream=True)).encode()
    await raw.send(raw.request(streamed))
    await asyncio.sleep(0.4)
    psutil.Process(serving.gateway.process.pid).send_signal(signal.SIGTERM)
    status, _, body = await raw.answer()

    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")
    assert await raw.is_closed()
    await asyncio.to_thread(wait_until, lambda: serving.gateway.process.exit_code is not None)
