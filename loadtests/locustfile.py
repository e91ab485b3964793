"""Drives the running stack that `.flywheel/local.json` names, as its users do.

    locust -f loadtests/locustfile.py --headless --users 16 --spawn-rate 4 --run-time 30s

Beside locust's own figures it reports, for streamed chat, `time to first token` and `time between tokens`
(one value an answer: the mean of its gaps) as rows of their own.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_pacing, events, tag, task

LOCAL_STACK = Path(os.environ.get("FLYWHEEL_HOME", ".flywheel")) / "local.json"
CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "all-minilm-l6-v2"
MAX_TOKENS = 32
QUESTIONS = (
    "What is a flywheel?",
    "Name three uses of a small language model.",
    "Why is the sky blue?",
    "Write one line about rain.",
)


@dataclass(frozen=True, slots=True)
class Stack:
    base_url: str
    api_key: str


def running_stack() -> Stack:
    """Raises SystemExit with what to do when no stack runs."""
    try:
        state = json.loads(LOCAL_STACK.read_text())
    except FileNotFoundError:
        raise SystemExit(f"{LOCAL_STACK} is not there: start the stack with `make up` first.") from None
    return Stack(base_url=state["base_url"].rstrip("/"), api_key=state["api_key"])


class TeamMember(FastHttpUser):
    """Asks about one question a second, and waits for the answer before the next."""

    wait_time = constant_pacing(1)
    network_timeout = 120.0
    host = "set by on_start"

    def on_start(self) -> None:
        stack = running_stack()
        self.base_url = stack.base_url
        self.headers = {"authorization": f"Bearer {stack.api_key}"}

    @tag("stream")
    @task(6)
    def streamed_chat(self) -> None:
        started = time.perf_counter()
        with self._post("/chat/completions", "chat, streamed", stream=True, **_chat()) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")
                return
            token_times = [time.perf_counter() for event in _events(answer.stream) if _has_text(event)]
            if not token_times:
                answer.failure("a stream without a token")
                return
        _report("time to first token", token_times[0] - started)
        if len(token_times) > 1:
            _report("time between tokens", (token_times[-1] - token_times[0]) / (len(token_times) - 1))

    @tag("whole")
    @task(3)
    def whole_chat(self) -> None:
        with self._post("/chat/completions", "chat", **_chat()) as answer:
            if answer.status_code == 200 and not answer.json()["choices"][0]["message"]["content"]:
                answer.failure("an answer without a word")

    @tag("repeat")
    @task(1)
    def repeated_chat(self) -> None:
        """The same question with temperature 0, which the cache may answer."""
        with self._post("/chat/completions", "chat, repeated", **_chat(QUESTIONS[0]) | {"temperature": 0}):
            pass

    @tag("embeddings")
    @task(1)
    def embeddings(self) -> None:
        """Left out unless EMBEDDINGS=1: the first one starts an engine."""
        if os.environ.get("EMBEDDINGS") != "1":
            return
        with self._post("/embeddings", "embeddings", model=EMBEDDING_MODEL, input=random.choice(QUESTIONS)):
            pass

    def _post(self, path: str, name: str, **body: Any) -> Any:
        return self.client.post(
            self.base_url + path,
            json=body,
            headers=self.headers,
            name=name,
            catch_response=True,
            stream=bool(body.get("stream")),
        )


def _chat(question: str | None = None) -> dict[str, Any]:
    return {
        "model": CHAT_MODEL,
        "messages": [{"role": "user", "content": question or f"{random.choice(QUESTIONS)} ({random.random():.6f})"}],
        "max_tokens": MAX_TOKENS,
    }


def _events(body: Any) -> Iterator[dict[str, Any]]:
    """Each as soon as it is there; `body` is geventhttpclient's response."""
    while (line := body.readline(b"\n\n").strip()) != b"":
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield json.loads(line[6:])


def _has_text(event: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in event["choices"])


def _report(name: str, duration_s: float) -> None:
    events.request.fire(
        request_type="stream", name=name, response_time=duration_s * 1000, response_length=0, exception=None, context={}
    )
