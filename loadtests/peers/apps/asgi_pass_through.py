"""A plain ASGI application and aiohttp passing a request on, without any feature or framework."""

import os

import aiohttp

UPSTREAM = os.environ["UPSTREAM"]


class PassThrough:
    session: aiohttp.ClientSession

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {"content-type": "application/json"}
        async with self.session.post(f"{UPSTREAM}{scope['path']}", data=body, headers=headers) as answer:
            content = await answer.read()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": content})

    async def _live(self, receive, send) -> None:
        await receive()
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.session.close()
        await send({"type": "lifespan.shutdown.complete"})


app = PassThrough()
