"""uvicorn and one Redis GET: the least that an answer from Redis can cost. Expects the answer under `answer`."""

import os

from redis.asyncio import Redis

redis = Redis.from_url(os.environ["REDIS_URL"])


async def app(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await redis.aclose()
        await send({"type": "lifespan.shutdown.complete"})
        return
    answer = await redis.get("answer")
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": answer})
