"""Just enough HTTP/1.1 of the server's side, and the ways to get it wrong."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tests.fake_engine.behaviour import Behaviour

TINY_CHUNK_BYTES = 3


class ClientGone(Exception):
    """The client closed the connection before the end of the answer."""


class Ended(Exception):
    """The connection was closed on purpose."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.StreamReaderProtocol):
    """One client's connection. It notices at once when the client goes away."""

    def __init__(self, serve: Any) -> None:
        self.client_gone = asyncio.Event()
        super().__init__(asyncio.StreamReader(limit=1 << 22), lambda reader, writer: serve(self, reader, writer))

    def eof_received(self) -> bool:
        super().eof_received()
        self.client_gone.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.client_gone.set()

    async def pause(self, duration_s: float | None) -> None:
        """Waits, for ever if None. Raises ClientGone as soon as the client leaves."""
        if duration_s == 0:
            if self.client_gone.is_set():
                raise ClientGone
            return
        try:
            await asyncio.wait_for(self.client_gone.wait(), duration_s)
        except TimeoutError:
            return
        raise ClientGone


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """None when the client has closed its side."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)


class Response:
    """Writes one answer as its behaviour says, and keeps count."""

    def __init__(self, connection: Connection, writer: asyncio.StreamWriter, behaviour: Behaviour) -> None:
        self._connection, self._writer, self._behaviour = connection, writer, behaviour
        self.chunks_sent = 0
        self.started = False

    async def head(self, status: int, content_type: str, *, length: int | None) -> None:
        """`length` None starts an answer in chunks."""
        behaviour = self._behaviour
        if behaviour.hang == "before_headers":
            await self._connection.pause(None)
        if behaviour.close_before_headers:
            self.close()
        if behaviour.garbage == "head":
            await self._send(b"\x16\x03\x01\x02\x00 this is not HTTP \xff\xfe\r\n\r\n")
            self.close()
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "server: uvicorn", f"content-type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in behaviour.headers.items()]
        if behaviour.framing == "close_delimited":
            lines.append("connection: close")
        elif length is not None and behaviour.framing != "tiny_chunks":
            lines.append(f"content-length: {length}")
        else:
            lines.append("transfer-encoding: chunked")
        self.started = True
        if behaviour.header_delay_s:
            for line in lines:
                await self._connection.pause(behaviour.header_delay_s)
                await self._send(f"{line}\r\n".encode())
            await self._send(b"\r\n")
        else:
            await self._send("\r\n".join([*lines, "", ""]).encode())
        if behaviour.hang == "after_headers":
            await self._connection.pause(None)
        if behaviour.garbage == "body":
            await self._send(b"zz\r\nnot a chunk\r\n")
            self.close()

    async def whole(self, status: int, body: Any) -> None:
        """An answer in one piece."""
        raw, content_type = _encoded(body)
        await self.head(status, content_type, length=len(raw))
        cut = self._behaviour.close_after_chunks
        if cut is not None:
            await self._send(raw[:cut])
            self.close()
        if self._behaviour.framing == "tiny_chunks":
            await self._chunks(raw)
            await self.end()
            return
        await self._send(raw)
        self.chunks_sent += 1
        if self._behaviour.framing == "close_delimited":
            self.close()

    async def event(self, event: bytes) -> None:
        """One event of a stream."""
        behaviour = self._behaviour
        if behaviour.close_after_chunks == self.chunks_sent:
            self.close()
        if behaviour.close_in_mid_chunk == self.chunks_sent:
            frame = event if behaviour.framing == "close_delimited" else f"{len(event):x}\r\n".encode() + event
            await self._send(frame[: len(frame) - len(event) // 2])
            self.close()
        if behaviour.hang_after_chunks == self.chunks_sent:
            await self._connection.pause(None)
        await self._chunks(event)
        self.chunks_sent += 1

    async def end(self) -> None:
        if self._behaviour.framing == "close_delimited":
            self.close()
        await self._send(b"0\r\n\r\n")

    def close(self) -> None:
        if self._behaviour.reset:
            connection: socket.socket = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        raise Ended

    async def _chunks(self, data: bytes) -> None:
        if self._behaviour.framing == "close_delimited":
            await self._send(data)
        elif self._behaviour.framing == "tiny_chunks":
            for at in range(0, len(data), TINY_CHUNK_BYTES):
                piece = data[at : at + TINY_CHUNK_BYTES]
                await self._send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        else:
            await self._send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def _send(self, data: bytes) -> None:
        await self._connection.pause(0)
        piece_bytes = self._behaviour.wire_piece_bytes or max(1, len(data))
        try:
            for at in range(0, len(data), piece_bytes):
                self._writer.write(data[at : at + piece_bytes])
                await self._writer.drain()
                if self._behaviour.wire_piece_bytes:
                    await asyncio.sleep(0.0005)
        except ConnectionError:
            raise ClientGone from None


def _encoded(body: Any) -> tuple[bytes, str]:
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(), "application/json"
