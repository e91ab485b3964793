"""From the bytes of a request and its answer to a redacted capture."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from contracts.captures import Capture, CapturedTurn
from contracts.identifiers import new_id
from contracts.openai import ChatMessage
from contracts.personal_data import Kind, redact
from gateway.capture.raw import RawCapture
from gateway.relay.sse import DONE, EVENT_END
from store.captures import hash_user

USERS_ROLE = "user"
ROLES = {"developer": "system"}


class NotCapturable(Exception):
    """An answer of which nothing can be learnt as text: a tool call, several prompts, an answer that broke off."""


class _Request(msgspec.Struct):
    messages: list[ChatMessage] | None = None
    prompt: str | None = None
    user: str | None = None


class _Words(msgspec.Struct):
    content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Words | None = None
    delta: _Words | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    id: str = ""
    choices: list[_Choice] = []
    error: msgspec.Raw | None = None


class _Said:
    """The first choice, as it adds up."""

    def __init__(self) -> None:
        self.response_id = ""
        self.finish_reason: str | None = None
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, answer: _Answer) -> None:
        if answer.error is not None:
            raise NotCapturable
        self.response_id = self.response_id or answer.id
        for choice in answer.choices:
            if choice.index != 0:
                continue
            words = choice.message or choice.delta
            if words is not None and words.tool_calls:
                raise NotCapturable
            self._texts.append((words.content if words is not None else choice.text) or "")
            self.finish_reason = choice.finish_reason or self.finish_reason


class CaptureReader:
    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._request = msgspec.json.Decoder(_Request)
        self._answer = msgspec.json.Decoder(_Answer)

    def read(self, raw: RawCapture) -> Capture:
        """Raises NotCapturable."""
        try:
            request, said = self._request.decode(raw.request), self._read_answer(raw.answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotCapturable from None
        turns = _turns(request)
        if not turns or not said.text.strip() or not said.response_id:
            raise NotCapturable
        counts: Counter[Kind] = Counter()
        contents = []
        for text in (*(content for _, content in turns), said.text):
            redacted = redact(text)
            counts += redacted.counts
            contents.append(redacted.text)
        return Capture(
            id=new_id("capture"),
            response_id=said.response_id,
            tenant=raw.tenant,
            key=raw.key,
            model=raw.model,
            route=raw.route,
            messages=[
                CapturedTurn(role=role, content=content) for (role, _), content in zip(turns, contents, strict=False)
            ],
            answer=contents[-1],
            finish_reason=said.finish_reason,
            user_hash=None if request.user is None else hash_user(request.user, raw.tenant, self._secret),
            redacted=dict(counts),
            prompt_tokens=raw.prompt_tokens,
            completion_tokens=raw.completion_tokens,
            duration_s=raw.duration_s,
            first_token_s=raw.first_token_s,
            created_at=raw.created_at,
        )

    def _read_answer(self, body: bytes) -> _Said:
        said = _Said()
        for answer in _events(body) if body.startswith(b"data:") else (body,):
            said.add(self._answer.decode(answer))
        return said


def _events(body: bytes) -> Iterable[bytes]:
    events = [event for event in body.split(EVENT_END) if event.startswith(b"data:")]
    if not events or events[-1] != DONE:
        raise NotCapturable
    return (event.removeprefix(b"data:") for event in events[:-1])


def _turns(request: _Request) -> list[tuple[str, str]]:
    if request.messages is None:
        return [] if request.prompt is None else [(USERS_ROLE, request.prompt)]
    return [(ROLES.get(turn.role, turn.role), _text(turn)) for turn in request.messages]


def _text(turn: ChatMessage) -> str:
    """Parts that are no text (pictures, sound) are named, not kept."""
    if not isinstance(turn.content, list):
        return turn.content or ""
    return "\n".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]" for part in turn.content
    )
