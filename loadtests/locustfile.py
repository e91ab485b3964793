"""Drives a running stack as its users do: chat in turns, long prompts, batches and embeddings.

    locust -f loadtests/locustfile.py --headless --users 4 --run-time 60s --html report.html

The stack is the one that `.flywheel/local.json` names, or FLYWHEEL_BASE_URL (several, with commas between) with
FLYWHEEL_API_KEY. A locust user is a source of one request a second: requests come when they come, whether or not
earlier ones are answered, so a slow stack gets no less to do. Without `--headless` locust's page asks for the number
of sources. One process can send no more than one core can: `--processes 4` drives from four, and `--master` and
`--worker` from several machines (docs.locust.io, "Distributed load generation").

LOAD_PLAN=spike        stages and thresholds of loadtests/load/plans.py; locust's own options if unset
LOAD_SECONDS=600       the plan's stages in so many seconds together
LOAD_ARRIVALS=bursty   where there is no plan; poisson by default
LOAD_SCALE=0.25        all lengths times this
LOAD_SUMMARY=file      where to write the figures as JSON

Beside locust's own figures it reports, for streamed answers, `time to first token` and `time between tokens` (one value
an answer: the mean of its gaps), and refusals with `retry-after` by their status. The exit code is 1 where a threshold
of the plan is missed.
"""

import itertools
import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.load.plans import PLANS, Plan
from loadtests.load.traffic import CHAT, LONG_PROMPT, Lengths, gap_s, text, tokens

LOCAL_STACK = Path(os.environ.get("FLYWHEEL_HOME", ".flywheel")) / "local.json"
CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "all-minilm-l6-v2"
SCALE = float(os.environ.get("LOAD_SCALE", "1"))
SYSTEM_PROMPTS = 8
BATCH = 4
MOST_TURNS = 5
REQUESTS_PER_S = 1.0
FIRST_TOKEN, BETWEEN_TOKENS = "time to first token", "time between tokens"


def chosen_plan() -> Plan | None:
    if (name := os.environ.get("LOAD_PLAN")) is None:
        return None
    plan = PLANS[name]
    return plan.lasting(float(seconds)) if (seconds := os.environ.get("LOAD_SECONDS")) else plan


PLAN = chosen_plan()
ARRIVALS = PLAN.arrivals if PLAN else os.environ.get("LOAD_ARRIVALS", "poisson")

if PLAN is not None:

    class PlannedShape(LoadTestShape):
        """Defined only where there is a plan: locust follows any shape that it finds."""

        def tick(self) -> tuple[int, float] | None:
            sources = PLAN.sources_at(self.get_run_time())
            return None if sources is None else (sources, 100.0)


@dataclass(frozen=True, slots=True)
class Stack:
    base_urls: tuple[str, ...]
    api_key: str


def running_stack() -> Stack:
    """Raises SystemExit with what to do when no stack runs."""
    if urls := os.environ.get("FLYWHEEL_BASE_URL"):
        return Stack(tuple(url.rstrip("/") for url in urls.split(",")), os.environ["FLYWHEEL_API_KEY"])
    try:
        state = json.loads(LOCAL_STACK.read_text())
    except FileNotFoundError:
        raise SystemExit(f"{LOCAL_STACK} is not there: start the stack with `make up` first.") from None
    return Stack((state["base_url"].rstrip("/"),), state["api_key"])


@dataclass(slots=True)
class Talk:
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def turns(self) -> int:
        return len(self.messages) // 2


class Source(FastHttpUser):
    """One request a second in the mean, of the kinds and in the shares of `MIX`."""

    host = "set by on_start"
    network_timeout = connection_timeout = 120.0
    concurrency = 10_000

    def on_start(self) -> None:
        stack = running_stack()
        self._urls = itertools.cycle(random.sample(stack.base_urls, len(stack.base_urls)))
        self.headers = {"authorization": f"Bearer {stack.api_key}"}
        self._chance = random.Random()
        self._talks: deque[Talk] = deque()
        kinds: dict[Callable[[], None], int] = {
            self.chat_turn: 60,
            self.long_prompt: 15,
            self.batch: 5,
            self.embeddings: 15,
            self.repeated: 5,
        }
        if os.environ.get("EMBEDDINGS") == "0":
            del kinds[self.embeddings]
        self._kinds, self._weights = list(kinds), list(kinds.values())
        self._running: set[gevent.Greenlet] = set()

    def wait_time(self) -> float:
        return gap_s(self._chance, ARRIVALS, REQUESTS_PER_S)

    @task
    def arrive(self) -> None:
        (kind,) = self._chance.choices(self._kinds, self._weights)
        greenlet = gevent.spawn(kind)
        self._running.add(greenlet)
        greenlet.rawlink(self._running.discard)

    def on_stop(self) -> None:
        """What was asked is answered before the source ends."""
        gevent.joinall(list(self._running), timeout=self.network_timeout)

    def chat_turn(self) -> None:
        """The next turn of a conversation that waits for one, or the first of a new one; streamed."""
        talk = self._talks.popleft() if self._talks and self._chance.random() < 0.75 else self._new_talk()
        talk.messages.append({"role": "user", "content": self._text(CHAT.prompt_median / 4, CHAT.sigma)})
        answer = self._stream("chat turn", talk.messages, self._answer_tokens(CHAT))
        if answer and talk.turns < MOST_TURNS:
            talk.messages.append({"role": "assistant", "content": answer})
            self._talks.append(talk)

    def long_prompt(self) -> None:
        """As retrieval makes them: what was found, and a question about it."""
        question = self._text(LONG_PROMPT.prompt_median, LONG_PROMPT.sigma)
        self._stream("long prompt", [{"role": "user", "content": question}], self._answer_tokens(LONG_PROMPT))

    def batch(self) -> None:
        """Several whole answers that nobody waits for on a page."""
        for _ in range(BATCH):
            question = self._text(CHAT.prompt_median, CHAT.sigma)
            self._ask("batch", [{"role": "user", "content": question}], self._answer_tokens(CHAT))

    def repeated(self) -> None:
        """The same question with temperature 0, which the cache may answer."""
        self._ask("repeated", [{"role": "user", "content": "What is a flywheel?"}], 16, temperature=0)

    def embeddings(self) -> None:
        inputs = [self._text(64, CHAT.sigma) for _ in range(BATCH)]
        with self._post("/embeddings", "embeddings", model=EMBEDDING_MODEL, input=inputs) as answer:
            self._judge(answer)

    def _new_talk(self) -> Talk:
        chance = random.Random(self._chance.randrange(SYSTEM_PROMPTS))
        system = text(chance, tokens(chance, CHAT.prompt_median / 2, 0.5, SCALE))
        return Talk([{"role": "system", "content": system}])

    def _text(self, median: float, sigma: float) -> str:
        return text(self._chance, tokens(self._chance, median, sigma, SCALE))

    def _answer_tokens(self, lengths: Lengths) -> int:
        return tokens(self._chance, lengths.answer_median, lengths.sigma, SCALE)

    def _ask(self, name: str, messages: list[dict[str, str]], max_tokens: int, **more: Any) -> None:
        body = {"model": CHAT_MODEL, "messages": messages, "max_tokens": max_tokens} | more
        with self._post("/chat/completions", name, **body) as answer:
            if self._judge(answer) and not answer.json()["choices"][0]["message"]["content"]:
                answer.failure("an answer without a word")

    def _stream(self, name: str, messages: list[dict[str, str]], max_tokens: int) -> str:
        """The answer's text; nothing where it was refused or broke off."""
        body = {"model": CHAT_MODEL, "messages": messages, "max_tokens": max_tokens, "stream": True}
        began, times, words = time.perf_counter(), [], []
        with self._post("/chat/completions", name, **body) as answer:
            if not self._judge(answer):
                return ""
            for event in _events(answer.stream):
                if "error" in event:
                    answer.failure(f"a stream ended with an error: {event['error'].get('message')}")
                    return ""
                if word := _text_of(event):
                    times.append(time.perf_counter())
                    words.append(word)
            if not times:
                answer.failure("a stream without a token")
                return ""
        _report("stream", FIRST_TOKEN, times[0] - began)
        if len(times) > 1:
            _report("stream", BETWEEN_TOKENS, (times[-1] - times[0]) / (len(times) - 1))
        return "".join(words)

    def _post(self, path: str, name: str, **body: Any) -> Any:
        return self.client.post(
            next(self._urls) + path,
            json=body,
            headers=self.headers,
            name=name,
            catch_response=True,
            stream=bool(body.get("stream")),
        )

    @staticmethod
    def _judge(answer: Any) -> bool:
        """Whether it was answered. To be refused with a time to come back is right under overload, and no failure."""
        if answer.status_code == 200:
            return True
        if answer.status_code in (429, 503) and "retry-after" in answer.headers:
            answer.success()
            _report("refused", str(answer.status_code), 0.0)
        else:
            answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")
        return False


def _events(body: Any) -> Iterator[dict[str, Any]]:
    """Each as soon as it is there; `body` is geventhttpclient's response."""
    while (line := body.readline(b"\n\n").strip()) != b"":
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield json.loads(line[6:])


def _text_of(event: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


def _report(kind: str, name: str, duration_s: float) -> None:
    events.request.fire(
        request_type=kind, name=name, response_time=duration_s * 1000, response_length=0, exception=None, context={}
    )


def summary(environment: Environment) -> dict[str, Any]:
    """Requests are those that were sent; rows of our own are no requests."""
    entries = environment.stats.entries
    sent = [entry for (_, kind), entry in entries.items() if kind == "POST"]
    requests = sum(entry.num_requests for entry in sent)
    refused = {name: entry.num_requests for (name, kind), entry in entries.items() if kind == "refused"}
    return {
        "requests": requests,
        "failed": sum(entry.num_failures for entry in sent),
        "refused": refused,
        "first_token_ms": _percentiles(environment, FIRST_TOKEN),
        "between_tokens_ms": _percentiles(environment, BETWEEN_TOKENS),
    }


def _percentiles(environment: Environment, name: str) -> dict[str, float]:
    entry = environment.stats.get(name, "stream")
    return {f"p{percent}": entry.get_response_time_percentile(percent / 100) for percent in (50, 95, 99)}


def missed(figures: dict[str, Any], plan: Plan) -> list[str]:
    """What of the plan's thresholds did not hold."""
    requests = figures["requests"]
    if not requests:
        return ["no request was sent"]
    found = []
    if (failed := figures["failed"] / requests) > plan.failed_share:
        found.append(f"{failed:.2%} failed, over {plan.failed_share:.2%}")
    if (refused := sum(figures["refused"].values()) / requests) > plan.refused_share:
        found.append(f"{refused:.2%} were refused, over {plan.refused_share:.2%}")
    limit, first_token = plan.first_token_p95_ms, figures["first_token_ms"]["p95"]
    if limit is not None and not 0 < first_token <= limit:
        found.append(f"time to first token, p95: {first_token:.0f} ms, over {limit:.0f} ms")
    return found


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Workers of a distributed run only send what they saw to the master, which judges."""
    if isinstance(environment.runner, WorkerRunner):
        return
    figures = summary(environment)
    figures["missed"] = missed(figures, PLAN) if PLAN else []
    if file := os.environ.get("LOAD_SUMMARY"):
        Path(file).write_text(json.dumps(figures))
    environment.process_exit_code = 1 if figures["missed"] else 0
