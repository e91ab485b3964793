"""FastAPI and aiohttp passing a request on, without any feature: what a first version of a gateway looks like."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from fastapi import FastAPI, Request, Response

UPSTREAM = os.environ["UPSTREAM"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    body = await request.body()
    headers = {"content-type": "application/json"}
    async with request.app.state.session.post(f"{UPSTREAM}{request.url.path}", data=body, headers=headers) as answer:
        return Response(await answer.read(), status_code=answer.status, media_type=answer.content_type)
