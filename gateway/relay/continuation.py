"""Another engine goes on with a stream that broke off: what it is asked, and how its answer joins the first one's.

It is asked for a completion of the prompt's tokens and all tokens told so far, so nothing is told twice or left out,
and at temperature 0 the text is that of the uninterrupted stream. Only the tokens that were generated before count
neither for presence and frequency penalties nor for the random numbers of a seed.
"""

import msgspec

from contracts.models import ModelCard
from contracts.openai import ChatCompletionRequest, CompletionRequest
from gateway.relay.sse import DONE, END_OF_STREAM, EVENT_END, Usage
from gateway.relay.transcript import Event, Transcript, decode_event
from gateway.relay.upstream import StreamBroken

PATH = "/v1/completions"
DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default at `/v1/completions`; a chat goes on to the end of the context."""
_ANEW = {"prompt", "max_tokens", "min_tokens", "stream_options"}
_LEFT_OUT = {"add_special_tokens", "truncate_prompt_tokens", "priority"}
_KEPT = frozenset(CompletionRequest.__struct_fields__) - _ANEW - _LEFT_OUT


def continuation_request(
    request: ChatCompletionRequest | CompletionRequest, transcript: Transcript, card: ModelCard
) -> bytes:
    told, prompt = len(transcript.tokens), len(transcript.prompt)
    fields = {name: value for name, value in msgspec.to_builtins(request).items() if name in _KEPT}
    fields |= {
        "model": card.name,
        "prompt": [*transcript.prompt, *transcript.tokens],
        "max_tokens": _longest(request, prompt, card) - told,
        "min_tokens": max(0, (request.min_tokens or 0) - told),
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    return msgspec.json.encode(fields)


def _longest(request: ChatCompletionRequest | CompletionRequest, prompt: int, card: ModelCard) -> int:
    room = card.context_length - prompt
    if isinstance(request, CompletionRequest):
        return min(request.max_tokens or DEFAULT_COMPLETION_TOKENS, room)
    return min(request.max_completion_tokens or request.max_tokens or room, room)


class ContinuedEvents:
    """Turns the events of the completion into those of the stream that broke off. Like `sse.EventFilter`."""

    def __init__(self, transcript: Transcript, *, chat: bool, hide_usage: bool) -> None:
        self._transcript = transcript
        self._chat = chat
        self._hide_usage = hide_usage
        self._skip_letters = 0 if transcript.finish_reason else transcript.rewind()
        self._partial = b""
        self._done = False
        self.over = False
        self.broken = False
        self.failed = False

    @property
    def usage(self) -> Usage:
        prompt, completion = len(self._transcript.prompt), len(self._transcript.tokens)
        return Usage(prompt, completion, prompt + completion)

    def feed(self, chunk: bytes) -> bytes:
        *events, self._partial = (self._partial + chunk).split(EVENT_END)
        told = []
        for event in events:
            try:
                told.append(self._translate(event))
            except StreamBroken:
                self.broken = True
                break
        return b"".join(told)

    def finish(self) -> bytes:
        """The end of a stream, also of one whose engine died after its last token. Raises StreamBroken."""
        if self._done:
            return b""
        if self._transcript.finish_reason is None:
            raise StreamBroken
        return self._end()

    def _translate(self, event: bytes) -> bytes:
        if event.startswith(DONE):
            return self._end()
        if event.startswith(b'data: {"error"'):
            raise StreamBroken
        decoded = decode_event(event)
        if decoded is None or not decoded.choices:
            return b""
        text = decoded.text
        self._transcript.add(_without(decoded, self._skip_letters))
        skipped, self._skip_letters = self._skip_letters, max(0, self._skip_letters - len(text))
        return self._say(text[skipped:], decoded.choices[0].finish_reason)

    def _say(self, text: str, finish_reason: str | None) -> bytes:
        told: dict[str, object] = {"delta": {"content": text}} if self._chat else {"text": text}
        return self._event([{"index": 0, **told, "logprobs": None, "finish_reason": finish_reason}])

    def _end(self) -> bytes:
        self._done = True
        usage = b"" if self._hide_usage else self._event([], usage=msgspec.to_builtins(self.usage))
        return usage + END_OF_STREAM

    def _event(self, choices: list[dict[str, object]], **fields: object) -> bytes:
        first = self._transcript.first
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        event = {"id": first.id, "object": kind, "created": first.created, "model": first.model, "choices": choices}
        return b"data: " + msgspec.json.encode(event | fields) + EVENT_END


def _without(event: Event, letters: int) -> Event:
    """The event without letters that were told before, as the transcript counts them."""
    if letters:
        choice = event.choices[0]
        choice.text = event.text[letters:]
    return event
