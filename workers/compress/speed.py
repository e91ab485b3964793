"""How soon and how fast an engine answers: streams of one length, so many at once, in rounds."""

import time
from dataclasses import dataclass
from statistics import median

from contracts.chat_dataset import ChatExample
from contracts.studies import LoadFigures, Measurement, Spread
from workers.compress.energy import EnergyMeter
from workers.compress.engine import OwnEngine
from workers.compress.threads import all_at_once
from workers.run import JobRun

WARMUP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class _Timed:
    first_s: float
    tokens: int


def measure_speed(
    engine: OwnEngine, examples: list[ChatExample], wanted: Measurement, meter: EnergyMeter, run: JobRun
) -> tuple[LoadFigures, ...]:
    """At each number of streams that is wanted. Raises OSError, HTTPException, and what `run.check` raises."""
    return tuple(_at(streams, engine, examples, wanted, meter, run) for streams in wanted.streams)


def _at(
    streams: int,
    engine: OwnEngine,
    examples: list[ChatExample],
    wanted: Measurement,
    meter: EnergyMeter,
    run: JobRun,
) -> LoadFigures:
    firsts, rates, tokens = [], [], 0
    _round(streams, engine, examples, -1, WARMUP_TOKENS, run)
    with meter:
        for number in range(wanted.rounds):
            began_at = time.monotonic()
            timed = _round(streams, engine, examples, number, wanted.answer_tokens, run)
            lasted_s = time.monotonic() - began_at
            firsts.append(1000 * median(one.first_s for one in timed))
            rates.append(sum(one.tokens for one in timed) / lasted_s)
            tokens += sum(one.tokens for one in timed)
    return LoadFigures(
        streams=streams,
        ttft_ms=_spread(firsts),
        tokens_per_second=_spread(rates),
        joules_per_token=round(meter.joules / tokens, 4) if meter.joules else None,
    )


def _round(
    streams: int, engine: OwnEngine, examples: list[ChatExample], number: int, tokens: int, run: JobRun
) -> list[_Timed]:
    def answer(place: int) -> _Timed:
        example = examples[(number * streams + place) % len(examples)]
        turns = [{"role": turn.role, "content": turn.content} for turn in example.messages[:-1]]
        # A number of its own in front keeps the prompt out of what the engine remembers of others.
        turns[-1]["content"] = f"({number + 1}.{place + 1}) {turns[-1]['content']}"
        return _time(engine, turns, tokens)

    return all_at_once(answer, range(streams), run, at_once=streams)


def _time(engine: OwnEngine, turns: list[dict[str, str]], tokens: int) -> _Timed:
    body = {"messages": turns, "max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "temperature": 0}
    began_at, first_s, counted = time.monotonic(), None, 0
    for chunk in engine.stream("/v1/chat/completions", body | {"stream_options": {"include_usage": True}}):
        if first_s is None and any(choice["delta"].get("content") for choice in chunk["choices"]):
            first_s = time.monotonic() - began_at
        if chunk.get("usage"):
            counted = chunk["usage"]["completion_tokens"]
    if first_s is None:  # what it said are no letters, or it ended early
        first_s = time.monotonic() - began_at
    return _Timed(first_s, counted)


def _spread(values: list[float]) -> Spread:
    return Spread(median=round(median(values), 3), low=round(min(values), 3), high=round(max(values), 3))
