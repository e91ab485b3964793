"""Tokens/s of a real engine with 32 streams: through the gateway, and straight."""

import asyncio
import json
import time
from typing import Any

import httpx

from loadtests.peers.effort import Effort
from loadtests.peers.rounds import Values, by_turns, compare
from loadtests.peers.servers import MODEL, Server

FIGURE = "real engine, 32 streams (tokens/s)"
STREAMS = 32
TOKENS = 64
TIMEOUT_S = 300


def measure_real_engine(engine: Server, ours: Server, effort: Effort) -> dict[str, Any]:
    def measure(server: Server) -> Values:
        return {FIGURE: asyncio.run(_tokens_per_s(server))}

    measure(engine)  # compiles and warms up
    return {FIGURE: compare(by_turns(measure, ours, [engine], rounds=effort.rounds), FIGURE)}


async def _tokens_per_s(server: Server) -> float:
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as client:
        started_at = time.monotonic()
        tokens = await asyncio.gather(*(_stream(client, server, number) for number in range(STREAMS)))
        return sum(tokens) / (time.monotonic() - started_at)


async def _stream(client: httpx.AsyncClient, server: Server, number: int) -> int:
    """The completion tokens that the engine counted. Raises RuntimeError when there are fewer than were asked for."""
    question = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Tell a story about wheel number {number}."}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    counted = 0
    headers = {"authorization": f"Bearer {server.key}"}
    async with client.stream("POST", server.chat_url, json=question, headers=headers) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith('data: {"') and (usage := json.loads(line[6:]).get("usage")):
                counted = usage["completion_tokens"]
    if counted != TOKENS:
        raise RuntimeError(f"{server.name}: {counted} of {TOKENS} tokens came")
    return counted
