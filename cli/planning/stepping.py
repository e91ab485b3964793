"""One engine under requests that come at random, stepped through as engines with continuous batching work.

All requests of a batch share each step, and the prompts that came during the last step are computed in the next one
(Agrawal et al., 2024, "Taming throughput-latency tradeoff in LLM inference with Sarathi-Serve"). What a step takes is
read from the profile: time between tokens grows in a line with the batch, and the first token of a request alone is
one step, its prompt, and the way to the engine and back. The way keeps nobody else waiting, so the largest batch tells
it from the prompt: had all of it been the engine's work, fewer requests would have been answered. Requests come as a
Poisson process and engines get equal parts of them: routing by load or by prefix does better, bursts and lengths with
heavier tails do worse.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import linear_regression
from typing import NamedTuple

from cli.benchmark.summary import percentile
from cli.errors import CliError
from cli.planning.profile import Profile

REQUESTS = 60_000
"""Near an engine's most, queues are rare and long: p99 of a tenth as many requests is off by a quarter."""
WARM_REQUESTS = 500
SEED = 1
MOST_WAITING = 2000
"""An engine with so many waiting does not keep up."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a step, of a step's part for each request that decodes, of a prompt, and of the way to the engine."""

    step_s: float
    request_s: float
    prompt_s: float
    way_s: float
    answer_tokens: float
    capacity: int

    @classmethod
    def of(cls, profile: Profile) -> "Pace":
        levels = profile.levels
        alone, most = levels[0], levels[-1]
        slope, at_nought = linear_regression(
            [level.concurrency for level in levels], [level.time_between_tokens_s.p50 for level in levels]
        )
        request_s, step_s = max(0.0, slope), max(0.0, at_nought)
        beside_step_s = max(0.0, alone.time_to_first_token_s.p50 - step_s)
        # What a full batch takes beside its steps: a prompt for each request, and one way for all of them.
        steps_s = most.time_between_tokens_s.p50 * most.answer_tokens
        beside_steps_s = most.concurrency / most.requests_per_s - steps_s
        prompt_s = (beside_steps_s - beside_step_s) / (most.concurrency - 1)
        prompt_s = min(max(0.0, prompt_s), beside_step_s)
        answer_tokens = sum(level.output_tokens for level in levels) / sum(level.answers for level in levels)
        return cls(step_s, request_s, prompt_s, beside_step_s - prompt_s, answer_tokens, most.concurrency)

    @property
    def most_per_s(self) -> float:
        """With a full batch all the time."""
        decoding_s = (self.step_s + self.request_s * self.capacity) * self.answer_tokens / self.capacity
        return 1 / (self.prompt_s + decoding_s)


class Request(NamedTuple):
    came_at_s: float
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Need:
    """`load` is the share of what the engines can answer at most."""

    engines: int
    load: float
    first_token_p99_s: float


def engines_needed(pace: Pace, requests_per_s: float, first_token_p99_s: float) -> Need:
    """The fewest engines. Raises CliError where not even an idle engine keeps the promise."""
    idle_s = pace.step_s + pace.prompt_s + pace.way_s
    if idle_s > first_token_p99_s:
        told, asked = idle_s * 1000, first_token_p99_s * 1000
        raise CliError(
            f"An idle engine's first token takes {told:.0f} ms, longer than the {asked:.0f} ms asked for.",
            advice="Plan with a faster engine's profile, or ask for less.",
        )
    low = high = max(1, math.ceil(requests_per_s / pace.most_per_s))
    while (need := expect(pace, high, requests_per_s)).first_token_p99_s > first_token_p99_s:
        if requests_per_s / high < 0.001 * pace.most_per_s:
            raise CliError("Engines that are nearly idle miss this time to first token.", advice="Ask for less.")
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        tried = expect(pace, middle, requests_per_s)
        if tried.first_token_p99_s <= first_token_p99_s:
            high, need = middle, tried
        else:
            low = middle + 1
    return need


def expect(pace: Pace, engines: int, requests_per_s: float) -> Need:
    """What so many engines do: the same for the same question, since chance has a fixed seed."""
    each = requests_per_s / engines
    chance = random.Random(SEED)  # noqa: S311 (no secret)
    times = first_tokens_s(pace, islice(random_requests(chance, each, pace.answer_tokens), REQUESTS))
    return Need(engines, each / pace.most_per_s, percentile(times[WARM_REQUESTS:] or times, 99))


def random_requests(chance: random.Random, requests_per_s: float, answer_tokens: float) -> Iterator[Request]:
    """Without end: a Poisson process, whose answers are exponentially long around their mean."""
    came_at_s = 0.0
    while True:
        yield Request(came_at_s, max(1, round(chance.expovariate(1 / answer_tokens))))
        came_at_s += chance.expovariate(requests_per_s)


def first_tokens_s(pace: Pace, requests: Iterable[Request]) -> list[float]:
    """Of one engine that these requests come to, in their order; one infinite time if it does not keep up."""
    coming = iter(requests)
    upcoming = next(coming, None)
    waiting: deque[Request] = deque()
    ends: list[int] = []  # a heap: the steps after which answers are whole
    step = 0
    times: list[float] = []
    now = 0.0
    while upcoming or waiting or ends:
        if upcoming and not waiting and not ends:
            now = max(now, upcoming.came_at_s)
        while upcoming and upcoming.came_at_s <= now:
            waiting.append(upcoming)
            upcoming = next(coming, None)
        if len(waiting) > MOST_WAITING:
            return [math.inf]
        begun = [waiting.popleft() for _ in range(min(len(waiting), pace.capacity - len(ends)))]
        step_s = pace.step_s + pace.request_s * len(ends)
        steps = 1
        if not begun and step_s > 0:  # the same step again, until an answer is whole or somebody comes
            steps = ends[0] - step
            if upcoming:
                steps = max(1, min(steps, math.ceil((upcoming.came_at_s - now) / step_s)))
        now += step_s * steps + pace.prompt_s * len(begun)
        step += steps
        for request in begun:
            times.append(now - request.came_at_s + pace.way_s)
            heapq.heappush(ends, step + request.answer_tokens - 1)
        while ends and ends[0] <= step:
            heapq.heappop(ends)
    return times
