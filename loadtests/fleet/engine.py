"""An engine as continuous batching makes it: steps that all running requests share, and a prefix cache.

A step takes a fixed time, and more for each request that decodes in it and each prompt token that is computed in it
(Agrawal et al., 2024, "Taming throughput-latency tradeoff in LLM inference with Sarathi-Serve": prompts go in pieces,
beside the running decodes). The prefix cache is the fake engine's, which evicts as vLLM does.
"""

from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import ceil

import simpy

from contracts.engine import EngineLease, EngineLoad
from tests.fake_engine.prefix_cache import PrefixCache

MODEL = "simulated-model"


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """The defaults are about those of an 8 B model in bf16 on one A100: its weights are read in 12 ms, and it computes
    some 8,000 prompt tokens a second."""

    step_s: float = 0.012
    step_s_per_request: float = 0.0002
    prefill_s_per_token: float = 0.00012
    prefill_tokens_a_step: int = 2048
    capacity: int = 64
    kv_cache_tokens: int = 120_000

    def step_time_s(self, decoding: int, prefill_tokens: int) -> float:
        return self.step_s + self.step_s_per_request * decoding + self.prefill_s_per_token * prefill_tokens


@dataclass(slots=True, eq=False)
class Job:
    """One request at an engine. `blocks` name its prompt's whole blocks."""

    blocks: Sequence[int]
    prompt_tokens: int
    output_tokens: int
    first_token: simpy.Event
    done: simpy.Event
    uncached: int = 0
    left: int = 0


class SimulatedEngine:
    """Steps that are alike are simulated at once, up to the next arrival or end of an answer."""

    def __init__(self, environment: simpy.Environment, number: int, speed: EngineSpeed) -> None:
        self._environment = environment
        self._speed = speed
        self.cache = PrefixCache(speed.kv_cache_tokens)
        self.name = f"engine-{number}"
        self.requests = 0
        self.token_gaps_s: Counter[float] = Counter()
        """How often a token came so long after the one before it."""
        self._url = f"http://engine-{number}:8100"
        self._waiting: deque[Job] = deque()
        self._prefilling: deque[Job] = deque()
        self._decoding: list[Job] = []
        self._arrival = environment.event()
        environment.process(self._run())

    def ask(self, job: Job) -> None:
        self.requests += 1
        self._waiting.append(job)
        if not self._arrival.triggered:
            self._arrival.succeed()

    def lease(self) -> EngineLease:
        return EngineLease(
            engine=self.name,
            url=self._url,
            model=MODEL,
            task="generate",
            capacity=self._speed.capacity,
            context_length=131_072,
            load=EngineLoad(
                running=self._running, waiting=len(self._waiting), kv_cache_tokens=self._speed.kv_cache_tokens
            ),
        )

    @property
    def _running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    def _run(self) -> Generator[simpy.Event, object, None]:
        environment = self._environment
        while True:
            self._arrival = environment.event()
            self._admit()
            if self._prefilling:
                yield from self._prefill()
            elif self._decoding:
                yield from self._decode()
            else:
                yield self._arrival

    def _admit(self) -> None:
        while self._waiting and self._running < self._speed.capacity:
            job = self._waiting.popleft()
            cached = self.cache.admit_blocks(job.blocks, job.prompt_tokens)
            job.uncached = max(1, job.prompt_tokens - cached)  # the last token is always computed, for its logits
            job.left = job.output_tokens
            self._prefilling.append(job)

    def _prefill(self) -> Generator[simpy.Event, object, None]:
        """One step: a piece of prompts beside a token of each that decodes."""
        budget, begun, step_tokens = self._speed.prefill_tokens_a_step, [], 0
        while self._prefilling and budget:
            job = self._prefilling[0]
            piece = min(budget, job.uncached)
            job.uncached -= piece
            budget -= piece
            step_tokens += piece
            if job.uncached == 0:
                begun.append(self._prefilling.popleft())
        step_s = self._speed.step_time_s(len(self._decoding), step_tokens)
        yield self._environment.timeout(step_s)
        self._advance(1, step_s)
        for job in begun:
            job.first_token.succeed()
            self._decoding.append(job)
            job.left -= 1
        self._end_answers()

    def _decode(self) -> Generator[simpy.Event, object, None]:
        """Steps until the first answer ends, or to the end of the step in which a request arrives."""
        step_s = self._speed.step_time_s(len(self._decoding), 0)
        most = min(job.left for job in self._decoding)
        began = self._environment.now
        yield self._environment.timeout(most * step_s) | self._arrival
        steps = min(most, max(1, ceil((self._environment.now - began) / step_s - 1e-9)))
        if (rest := began + steps * step_s - self._environment.now) > 0:
            yield self._environment.timeout(rest)
        self._advance(steps, step_s)
        self._end_answers()

    def _advance(self, steps: int, step_s: float) -> None:
        self.token_gaps_s[step_s] += steps * len(self._decoding)
        for job in self._decoding:
            job.left -= steps

    def _end_answers(self) -> None:
        for job in self._decoding:
            if job.left <= 0:
                job.done.succeed()
        self._decoding = [job for job in self._decoding if job.left > 0]
