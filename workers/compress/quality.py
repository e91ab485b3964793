"""How likely an engine finds held-out text, and how alike its answers are to held-out ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from contracts.chat_dataset import ChatExample
from contracts.studies import Interval
from workers.compress.engine import OwnEngine
from workers.compress.threads import all_at_once
from workers.evaluate.bootstrap import paired
from workers.run import JobRun

WINDOW_TOKENS = 256
SHORTEST_WINDOW_TOKENS = 16
MOST_WINDOWS = 16
AT_ONCE = 4
ANSWERS_AT_ONCE = 16
LONGER_THAN_REFERENCE = 2
SHORTEST_ANSWER_TOKENS = 32


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What no variant learnt from. `context_length` bounds what is asked, in tokens."""

    examples: list[ChatExample]
    text: str
    context_length: int


def losses(engine: OwnEngine, held_out: HeldOut, run: JobRun) -> list[float]:
    """Of the text's windows: nats a token. Raises OSError, HTTPException, KeyError, and what `run.check` raises."""
    tokens = _tokens(engine, held_out.text)
    length = min(WINDOW_TOKENS, held_out.context_length - 1)
    windows = [tokens[start : start + length] for start in range(0, len(tokens), length)]
    long_enough = [window for window in windows if len(window) >= min(length, SHORTEST_WINDOW_TOKENS)]
    return all_at_once(lambda window: _loss(engine, window), long_enough[:MOST_WINDOWS], run, at_once=AT_ONCE)


def scores(engine: OwnEngine, held_out: HeldOut, longest: int, run: JobRun) -> list[float]:
    """Of each conversation: chrF of the answer at temperature 0 to the one that is there, 0 to 1.

    Raises OSError, HTTPException, KeyError, and what `run.check` raises.
    """
    return all_at_once(
        lambda example: _score(engine, example, held_out.context_length, longest),
        held_out.examples,
        run,
        at_once=ANSWERS_AT_ONCE,
    )


def interval(values: Sequence[float], confidence: float) -> Interval:
    """Of a mean, by the bootstrap."""
    return difference([0.0] * len(values), values, confidence)


def difference(before: Sequence[float], after: Sequence[float], confidence: float) -> Interval:
    """Of the mean of `after` minus that of `before`, on the same rows."""
    found = paired(before, after, confidence=confidence)
    return Interval(mean=found.difference, low=found.low, high=found.high, rows=found.rows)


def perplexity(window_losses: Sequence[float], confidence: float) -> Interval:
    """The exponential of the mean loss; its interval is by windows, which are nearly of one length."""
    found = interval(window_losses, confidence)
    return Interval(mean=math.exp(found.mean), low=math.exp(found.low), high=math.exp(found.high), rows=found.rows)


def _loss(engine: OwnEngine, window: list[int]) -> float:
    body = {"prompt": window, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    told = engine.ask("/v1/completions", body)["choices"][0]["prompt_logprobs"]
    found = [of[str(token)]["logprob"] for of, token in zip(told[1:], window[1:], strict=True)]
    return -fmean(found)


def _score(engine: OwnEngine, example: ChatExample, context_length: int, longest: int) -> float:
    from workers.evaluate.similarity import chrf  # may load libraries; a worker's parent must not

    turns: list[dict[str, Any]] = [{"role": turn.role, "content": turn.content} for turn in example.messages]
    reference = example.messages[-1].content
    asked = engine.ask("/tokenize", {"messages": turns[:-1], "add_generation_prompt": True})["tokens"]
    wanted = max(SHORTEST_ANSWER_TOKENS, LONGER_THAN_REFERENCE * len(_tokens(engine, reference)))
    room = max(1, min(wanted, longest, context_length - len(asked)))
    answer = engine.ask("/v1/chat/completions", {"messages": turns[:-1], "max_tokens": room, "temperature": 0})
    return chrf(answer["choices"][0]["message"]["content"] or "", reference)


def _tokens(engine: OwnEngine, text: str) -> list[int]:
    tokens: list[int] = engine.ask("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
    return tokens
