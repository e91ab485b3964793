"""What a stream has said so far, in tokens, so that another engine can go on when its engine dies.

The engine is asked for token ids with each event (vLLM's `return_token_ids`); they are written down here and taken out
again before the event goes to the client. A token costs 12 bytes while its stream lasts.
"""

import re
from array import array

import msgspec

from contracts.openai import ChatCompletionRequest, CompletionRequest, DataPathRequest
from gateway.relay.upstream import StreamBroken

ABORTED = "abort"
"""vLLM's finish reason for a request that it gave up, as it does when it is told to stop."""
_IDS = re.compile(rb'"(prompt_)?token_ids":\[[\d,]*\]')
_NO_IDS = rb'"\1token_ids":null'


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class Event(msgspec.Struct):
    """The parts of a streamed chunk that are looked at. Of a chat or of a text completion."""

    id: str = ""
    created: int = 0
    model: str = ""
    choices: list[_Choice] = []
    prompt_token_ids: list[int] | None = None

    @property
    def text(self) -> str:
        choice = self.choices[0]
        return (choice.delta.content if choice.delta is not None else choice.text) or ""


_decoder = msgspec.json.Decoder(Event)


def decode_event(event: bytes) -> Event | None:
    """What `data: {…}` holds; None for everything else."""
    if not event.startswith(b"data: {"):
        return None
    try:
        return _decoder.decode(event[6:])
    except msgspec.DecodeError:
        return None


class Transcript:
    """`stop_lag`: letters that the engine holds back because they may begin a stop string."""

    def __init__(self, stop_lag: int) -> None:
        self._stop_lag = stop_lag
        self._letters = 0
        self._told: array[int] | None = array("I")  # pairs: tokens generated, letters told, wherever letters were told
        self.first = Event()
        self.prompt = array("I")
        self.tokens = array("I")
        self.finish_reason: str | None = None

    @property
    def begun(self) -> bool:
        return bool(self.first.id)

    @property
    def can_go_on(self) -> bool:
        return not self.begun or (self._told is not None and len(self.prompt) > 0)

    def note(self, event: bytes) -> bytes:
        """Writes an event down and returns it as the client gets it. Raises StreamBroken."""
        decoded = decode_event(event)
        if decoded is None or not decoded.choices:
            return event
        self.add(decoded)
        return _IDS.sub(_NO_IDS, event)

    def add(self, event: Event) -> None:
        choice = event.choices[0]
        if choice.finish_reason == ABORTED:
            raise StreamBroken
        if not self.first.id:
            self.first = event
        if prompt := event.prompt_token_ids or choice.prompt_token_ids:
            self.prompt = self.prompt or array("I", prompt)
        if choice.delta is not None and (choice.delta.reasoning or choice.delta.tool_calls):
            self._told = None  # more than text: only the engine's own parser can go on with that
        self.tokens.extend(choice.token_ids or ())
        self.finish_reason = choice.finish_reason
        if letters := len(event.text):
            self._letters += letters
            if self._told is not None:
                self._told.extend((len(self.tokens), self._letters))

    def rewind(self) -> int:
        """Forgets tokens whose text was not told in full; how many letters of what follows the client has already.

        An event that tells letters tells all that its tokens mean, up to `stop_lag` letters. So the last such event
        whose tokens mean no more than what was told is where another engine goes on.
        """
        assert self._told is not None
        known, told = 0, 0
        while self._told:
            told, known = self._told[-1] + self._stop_lag, self._told[-2]
            if told <= self._letters:
                break
            del self._told[-2:]
            known, told = 0, 0
        del self.tokens[known:]
        return self._letters - told


def new_transcript(request: DataPathRequest, body: bytes) -> Transcript | None:
    """None where another engine could not go on: more than one choice, or more than plain text in the answer."""
    if not isinstance(request, ChatCompletionRequest | CompletionRequest) or not request.stream:
        return None
    wanted = (request.prompt_logprobs, request.structured_outputs, request.return_token_ids)
    plain = (
        request.n in (None, 1)
        and (request.logprobs is None or request.logprobs is False)
        and all(field is None for field in wanted)
        and b'"return_token_ids"' not in body
        and (request.response_format or {}).get("type", "text") == "text"
        and not (request.stream_options and request.stream_options.continuous_usage_stats)
    )
    if isinstance(request, ChatCompletionRequest):
        plain = plain and not request.tools
    else:
        one_prompt = isinstance(request.prompt, str) or all(isinstance(part, int) for part in request.prompt)
        plain = plain and one_prompt and not request.echo and request.suffix is None and request.best_of in (None, 1)
    if not plain:
        return None
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    held_back = 0 if request.include_stop_str_in_output else max(map(len, stops), default=1) - 1
    return Transcript(max(held_back, 0))
