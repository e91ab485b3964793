"""What techniques calibrate with and learn from: a file of text or conversations, or what the model says by itself.

A chat model that is given nothing but the beginning of a user's turn goes on with a question, and then with its answer
(Xu et al., "Magpie", 2024): text of the model's own distribution, without any data.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contracts.chat_dataset import ChatExample
from contracts.datasets import NumberedRow, TextRow
from contracts.studies import Sampling
from workers.compress.engine import OwnEngine
from workers.compress.threads import all_at_once
from workers.run import JobFailed, JobRun

AT_ONCE = 32
SHORTEST_TOKENS = 8
MARK = "\u241e"
"""A letter that no template has; it marks where the user's words would begin."""


def say_something(engine: OwnEngine, wanted: Sampling, *, seed: int, run: JobRun) -> list[list[int]]:
    """`wanted.sequences` of `wanted.tokens` token ids each, in the form of the model's chat template.

    Raises OSError, HTTPException, KeyError, and what `run.check` raises.
    """
    beginning = _beginning(engine)

    def say(number: int) -> list[int]:
        body: dict[str, Any] = {"prompt": beginning, "max_tokens": max(1, wanted.tokens - len(beginning))}
        body |= {"temperature": 1.0, "top_p": 1.0, "seed": seed + number, "ignore_eos": True}
        answer = engine.ask("/v1/completions", body | {"return_token_ids": True})
        said: list[int] = answer["choices"][0]["token_ids"]
        return beginning + said

    return all_at_once(say, range(wanted.sequences), run, at_once=AT_ONCE)


def sequences_of(rows: Iterable[NumberedRow], engine: OwnEngine, wanted: Sampling, *, run: JobRun) -> list[list[int]]:
    """A file's rows as token ids: conversations by the chat template, texts cut into pieces; as many as are wanted.

    Raises JobFailed for rows of another kind, and what `engine.ask` and `run.check` raise.
    """
    found: list[list[int]] = []
    for numbered in rows:
        run.check()
        if isinstance(numbered.row, ChatExample):
            turns = [{"role": turn.role, "content": turn.content} for turn in numbered.row.messages]
            found.append(engine.ask("/tokenize", {"messages": turns})["tokens"][: wanted.tokens])
        elif isinstance(numbered.row, TextRow):
            tokens = engine.ask("/tokenize", {"prompt": numbered.row.text, "add_special_tokens": False})["tokens"]
            found += [tokens[start : start + wanted.tokens] for start in range(0, len(tokens), wanted.tokens)]
        else:
            message = "The training file of a study has text or conversations."
            raise JobFailed("invalid_training_file", message, param="training_file")
        if len(found) >= wanted.sequences:
            break
    return [tokens for tokens in found if len(tokens) >= SHORTEST_TOKENS][: wanted.sequences]


def write_sequences(sequences: list[list[int]], file: Path) -> None:
    file.write_text("".join(f"{json.dumps(tokens)}\n" for tokens in sequences))


def _beginning(engine: OwnEngine) -> list[int]:
    """The template up to where a user's words would stand."""
    whole: list[int] = engine.ask(
        "/tokenize", {"messages": [{"role": "user", "content": MARK}], "add_generation_prompt": False}
    )["tokens"]
    marked: list[int] = engine.ask("/tokenize", {"prompt": MARK, "add_special_tokens": False})["tokens"]
    for start in range(len(whole)):
        if whole[start : start + len(marked)] == marked:
            return whole[:start]
    return whole[:1]
