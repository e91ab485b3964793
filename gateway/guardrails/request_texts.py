"""The texts of a request that a model reads, and the same request with other ones."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

READ_BY_MODELS = ("messages", "prompt", "input", "suffix", "tools", "chat_template_kwargs")
NO_TEXT = frozenset({"role", "type", "id", "tool_call_id", "url", "data", "detail", "format"})
"""Fields of messages and tools that are no language: a picture's address or bytes must stay what they are."""
JSON_TEXT = "arguments"
"""A tool call's arguments are JSON in a string."""
OUTSIDERS = frozenset({"user", "tool", "function"})

Change = Callable[[str], str]


def with_texts(document: dict[str, Any], change: Change) -> dict[str, Any]:
    """A request's document with each text changed."""
    return {
        name: _map(value, change, numbers=False) if name in READ_BY_MODELS else value
        for name, value in document.items()
    }


def json_with_texts(text: str, change: Change) -> str:
    """JSON with each text and number changed that is in it; anything else as the text that it is.

    A number that changes becomes a text. JSON in which nothing changes stays as it was, letter by letter.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return change(text)
    changed = _map(value, change, numbers=True)
    return text if changed == value else msgspec.json.encode(changed).decode()


def texts_of(document: dict[str, Any]) -> list[str]:
    """All texts of a request that a model reads."""
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    with_texts(document, note)
    return texts


def texts_from_outside(document: dict[str, Any]) -> list[str]:
    """Those that are not the application's own or a model's: of users and of tools; prompts and inputs whole."""
    messages = document.get("messages") or []
    return texts_of(document | {"messages": [turn for turn in messages if turn.get("role") in OUTSIDERS], "tools": []})


def has_token_ids(document: dict[str, Any]) -> str | None:
    """The field that holds a prompt as token ids, which nobody can read here."""
    for field in ("prompt", "input"):
        value = document.get(field)
        if isinstance(value, list) and not all(isinstance(part, str) for part in value):
            return field
    return None


def _map(value: Any, change: Change, *, numbers: bool) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map(part, change, numbers=numbers) for part in value]
    if isinstance(value, dict):
        return dict(_map_fields(value, change, numbers=numbers))
    if numbers and isinstance(value, int | float) and not isinstance(value, bool):
        written = str(value)
        changed = change(written)
        return value if changed == written else changed
    return value


def _map_fields(fields: dict[str, Any], change: Change, *, numbers: bool) -> Iterable[tuple[str, Any]]:
    for name, value in fields.items():
        if numbers:
            yield change(name), _map(value, change, numbers=True)
        elif name in NO_TEXT:
            yield name, value
        elif name == JSON_TEXT and isinstance(value, str):
            yield name, json_with_texts(value, change)
        else:
            yield name, _map(value, change, numbers=False)
