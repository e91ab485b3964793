"""What a policy makes of an engine's answer on its way to the client, to the cache and to captures."""

from collections import Counter
from typing import Any

import msgspec

from contracts.errors import EngineError, SchemaViolation
from contracts.openai import ChatCompletionRequest, CompletionRequest
from contracts.personal_data import Kind
from gateway.guardrails.acts import Act
from gateway.guardrails.guards import Guards, describe
from gateway.guardrails.request_texts import JSON_TEXT
from gateway.guardrails.said import Blocked, JsonText, PlainText, SaidText
from gateway.relay.continuation import ContinuedEvents
from gateway.relay.sse import DONE, END_OF_STREAM, EVENT_END, EventFilter, Usage

CONTENT_FILTER = "content_filter"
"""OpenAI's finish reason for an answer that was cut, or left out, by a filter."""
SPOKEN = ("reasoning", "reasoning_content", "content", "refusal", "text")
"""Fields of a message, of a delta or of a completion's choice that hold language."""
MOST_WHOLE_BYTES = 16 << 20
_DATA = b"data: "

Choice = dict[str, Any]


class AnswerGuard:
    """Goes over one answer, whole or streamed. To be made anew for each engine's attempt.

    A choice that touches what is blocked ends there, with `content_filter`. Once all choices of a stream have,
    the answer has `ended`, and the engine need not go on.
    """

    def __init__(self, guards: Guards, request: ChatCompletionRequest | CompletionRequest) -> None:
        self._guards = guards
        self._json = _is_json(request)
        self._expected = _choices_of(request)
        self._choices: dict[int, _GuardedChoice] = {}
        self._partial = b""
        self.ended = False

    def acts(self) -> list[Act]:
        """What was done so far."""
        counts: Counter[Kind] = sum((choice.masked for choice in self._choices.values()), Counter())
        acts = [Act("personal_data", "output", "masked", describe(counts))] if counts else []
        blocked = {choice.blocked for choice in self._choices.values() if choice.blocked is not None}
        return acts + [Act(guard, "output", "cut", what) for guard, what in sorted(blocked)]

    def whole(self, body: bytes) -> bytes:
        """Raises SchemaViolation and EngineError."""
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise EngineError("The engine failed to answer the request.") from None
        choices = document.get("choices") or []
        for choice in choices:
            self._check_schema(choice)
        document["choices"] = [self._guarded(choice, last=True) for choice in choices]
        return msgspec.json.encode(document)

    def feed(self, events: bytes) -> bytes:
        """What of a stream may be sent on now."""
        *whole, self._partial = (self._partial + events).split(EVENT_END)
        passed: list[bytes] = []
        for event in whole:
            if self.ended:
                break
            if (kept := self._event(event)) is not None:
                passed += [kept, EVENT_END]
            if self.ended:
                passed.append(END_OF_STREAM)
        return b"".join(passed)

    def finish(self) -> bytes:
        """What is left of an event without an end."""
        rest, self._partial = self._partial, b""
        return rest if rest.startswith(DONE) and not self.ended else b""

    def _event(self, event: bytes) -> bytes | None:
        if not event.startswith(_DATA + b"{"):
            return event
        document = msgspec.json.decode(event[len(_DATA) :])
        choices = document.get("choices")
        if not choices:
            return event
        last = [choice.get("finish_reason") is not None for choice in choices]
        guarded = [self._guarded(choice, last=ends) for choice, ends in zip(choices, last, strict=True)]
        kept = [choice for choice in guarded if choice is not None]
        self.ended = sum(choice.blocked is not None for choice in self._choices.values()) >= self._expected
        if not kept and not document.get("usage"):
            return None
        document["choices"] = kept
        return _DATA + msgspec.json.encode(document)

    def _guarded(self, choice: Choice, *, last: bool) -> Choice | None:
        index = choice.get("index", 0)
        guarded = self._choices.get(index)
        if guarded is None:
            guarded = self._choices[index] = _GuardedChoice(self._guards, json=self._json)
        return guarded.tell(choice, last=last)

    def _check_schema(self, choice: Choice) -> None:
        """An answer that was cut by its length is passed on as OpenAI does: its finish reason says so."""
        if self._guards.schema is None or choice.get("finish_reason") != "stop":
            return
        said = (choice.get("message") or {}).get("content") if "message" in choice else choice.get("text")
        try:
            follows = self._guards.schema.allows(msgspec.json.decode(said or ""))
        except msgspec.DecodeError:
            follows = False
        if not follows:
            raise SchemaViolation("The model's answer does not follow the schema of this API key. Try again.")


class GuardedEvents:
    """The events of a stream after an AnswerGuard went over them. Like `sse.EventFilter`."""

    def __init__(self, events: EventFilter | ContinuedEvents, guard: AnswerGuard) -> None:
        self._events = events
        self._guard = guard

    @property
    def usage(self) -> Usage:
        return self._events.usage

    @property
    def over(self) -> bool:
        return self._guard.ended

    @property
    def broken(self) -> bool:
        return self._events.broken and not self._guard.ended

    @property
    def failed(self) -> bool:
        return self._events.failed

    def feed(self, chunk: bytes) -> bytes:
        return self._guard.feed(self._events.feed(chunk))

    def finish(self) -> bytes:
        """Raises StreamBroken."""
        return b"" if self._guard.ended else self._guard.feed(self._events.finish()) + self._guard.finish()


class _GuardedChoice:
    """One choice. Its texts are told in the order in which the engine tells them."""

    def __init__(self, guards: Guards, *, json: bool) -> None:
        self._guards = guards
        self._json = json
        self._said: dict[str, SaidText] = {}
        self._calls: dict[int, JsonText] = {}
        self.blocked: Blocked | None = None

    @property
    def masked(self) -> Counter[Kind]:
        return sum((said.masked for said in (*self._said.values(), *self._calls.values())), Counter())

    def tell(self, choice: Choice, *, last: bool) -> Choice | None:
        """The choice of an event or of a whole answer, changed in place; None where nothing is left to tell of it."""
        if self.blocked is not None:
            return None
        told = choice.get("delta") or choice.get("message") or choice
        spoken = [name for name in SPOKEN if told.get(name)]
        for name in SPOKEN:
            # A text ends where another one begins, so that what was held back of it is not told after that one.
            ends = last or (bool(spoken) and name not in spoken)
            if name in spoken or (ends and name in self._said):
                self._speak(told, name, last=ends)
        self._call(told, last=last)
        if self.blocked is not None:
            told.pop("tool_calls", None)
            choice |= {"finish_reason": CONTENT_FILTER, "stop_reason": None}
        return choice if self._tells(choice, told) else None

    def _speak(self, told: dict[str, Any], name: str, *, last: bool) -> None:
        if self.blocked is not None:
            told[name] = ""
            return
        said = self._said.get(name)
        if said is None:
            as_json = self._json and name in ("content", "text")
            said = self._said[name] = JsonText(self._guards) if as_json else PlainText(self._guards)
        told[name] = said.feed(told.get(name) or "", last=last)
        self.blocked = said.blocked

    def _call(self, told: dict[str, Any], *, last: bool) -> None:
        """Arguments of tool calls are JSON and are told at the end."""
        for at, call in enumerate(told.get("tool_calls") or ()):
            arguments = (call.get("function") or {}).get(JSON_TEXT)
            if arguments:
                number = call.get("index", at)
                self._calls.setdefault(number, JsonText(self._guards)).feed(arguments)
                call["function"][JSON_TEXT] = ""
        if not last or not self._calls or self.blocked is not None:
            return
        calls = told.setdefault("tool_calls", []) or []
        told["tool_calls"] = calls
        by_number = {call.get("index", at): call for at, call in enumerate(calls)}
        for number, said in self._calls.items():
            arguments = said.feed("", last=True)
            self.blocked = self.blocked or said.blocked
            if number in by_number:
                by_number[number].setdefault("function", {})[JSON_TEXT] = arguments
            else:
                calls.append({"index": number, "function": {JSON_TEXT: arguments}})

    @staticmethod
    def _tells(choice: Choice, told: dict[str, Any]) -> bool:
        """An event is left out where all that it had to tell is held back. The first one names the role."""
        return bool(
            choice.get("finish_reason") is not None
            or told.get("role")
            or told.get("tool_calls")
            or any(told.get(name) for name in SPOKEN)
        )


def _is_json(request: ChatCompletionRequest | CompletionRequest) -> bool:
    form = (request.response_format or {}).get("type", "text")
    return form != "text" or request.structured_outputs is not None


def _choices_of(request: ChatCompletionRequest | CompletionRequest) -> int:
    prompts = 1
    if isinstance(request, CompletionRequest) and isinstance(request.prompt, list):
        prompts = len(request.prompt) if all(isinstance(part, str | list) for part in request.prompt) else 1
    return prompts * (request.n or 1)
