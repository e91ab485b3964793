"""Requests that the cache answers: from Redis, and from the gateway's own memory."""

import json
from pathlib import Path
from typing import Any

import httpx

from loadtests.peers.effort import Effort
from loadtests.peers.pass_through import chat_request
from loadtests.peers.rounds import Values, by_turns, compare
from loadtests.peers.servers import Server
from loadtests.peers.wrk import run_wrk

FROM_REDIS = "cache hit from Redis, 32 connections (req/s)"
IN_PROCESS = "cache hit in-process, 32 connections (req/s)"


def measure_cache_hits(figure: str, ours: Server, peer: Server, folder: Path, effort: Effort) -> dict[str, Any]:
    question = chat_request(temperature=0)
    body = folder / "repeat.json"
    body.write_text(json.dumps(question))
    make_hit(ours, question)

    def measure(server: Server) -> Values:
        done = run_wrk(server, body=body, connections=32, duration_s=effort.wrk_s)
        return {figure: done.requests_per_s}

    measure(ours)  # warms up
    measure(peer)
    return {figure: compare(by_turns(measure, ours, [peer], rounds=effort.rounds), figure)}


def make_hit(server: Server, question: dict[str, object], attempts: int = 20) -> None:
    """Asks until the answer comes from the cache. Raises RuntimeError when it never does."""
    headers = {"authorization": f"Bearer {server.key}"}
    for _ in range(attempts):
        answer = httpx.post(server.chat_url, json=question, headers=headers, timeout=10)
        if answer.headers.get("x-flywheel-cache") == "hit":
            return
    raise RuntimeError("The gateway never answered from the cache.")
