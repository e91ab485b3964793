"""What vLLM 0.32 puts in its bodies and events (vllm/entrypoints/openai/{chat_completion,completion}/serving.py)."""

import base64
import hashlib
import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

EMBEDDING_DIMENSIONS = 384
FINGERPRINT = "vllm-0.32.0-fake"
SENTENCE = (
    "the wheel turns and a small model learns from every answer that it gave so the next turn is quicker and "
    "kinder than the last one was because momentum once stored is never quite lost in a heavy iron rim"
)
WORDS = SENTENCE.split()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one generation request, before it has a form on the wire."""

    id: str
    kind: str  # "chat" or "text"
    model: str
    prompt_tokens: int
    choices: tuple[tuple[str, ...], ...]
    finish_reason: str
    include_usage: bool
    created: int

    @property
    def completion_tokens(self) -> int:
        return sum(len(tokens) for tokens in self.choices)

    @property
    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }


def answer_to(kind: str, request: dict[str, Any], *, tokens: int, token_bytes: int | None) -> Answer:
    prompts = _prompts(kind, request)
    asked = request.get("max_completion_tokens") or request.get("max_tokens")
    length = tokens if asked is None else min(tokens, asked)
    per_prompt = range(request.get("n") or 1)
    return Answer(
        id=f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{hashlib.sha256(''.join(prompts).encode()).hexdigest()[:16]}",
        kind=kind,
        model=request["model"],
        prompt_tokens=sum(count_tokens(prompt) for prompt in prompts),
        choices=tuple(
            tuple(token_of(f"{request['model']}\n{index}\n{prompt}", at, token_bytes) for at in range(length))
            for prompt in prompts
            for index in per_prompt
        ),
        finish_reason="length" if asked is not None and asked <= tokens else "stop",
        include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
        created=int(time.time()),
    )


def token_of(prompt: str, position: int, token_bytes: int | None = None) -> str:
    """The same prompt always gets the same tokens."""
    digest = hashlib.sha256(f"{position}:{prompt}".encode()).digest()
    word = WORDS[int.from_bytes(digest[:4], "big") % len(WORDS)]
    if token_bytes is not None:
        word = (word * token_bytes)[: token_bytes - 1]
    return f" {word}" if position else word


def prompt_tokens(kind: str, request: dict[str, Any]) -> list[str]:
    """The tokens of all prompts of a request, words as they are counted."""
    return [word for prompt in _prompts(kind, request) for word in prompt.split()]


def count_tokens(prompt: str) -> int:
    """A word is a token; the chat template's own are left out."""
    return max(1, len(prompt.split()))


def body(answer: Answer) -> dict[str, Any]:
    if answer.kind == "chat":
        choices = [_chat_choice(index, "".join(tokens), answer) for index, tokens in enumerate(answer.choices)]
    else:
        choices = [_text_choice(index, "".join(tokens), answer) for index, tokens in enumerate(answer.choices)]
    fields = {
        "id": answer.id,
        "object": "chat.completion" if answer.kind == "chat" else "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": answer.usage | {"prompt_tokens_details": None, "completion_tokens_details": None},
    }
    if answer.kind == "chat":
        fields |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
    return fields | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}


def events(answer: Answer) -> Iterator[bytes]:
    """The `data:` events of a stream, the last being `[DONE]`."""
    yield from (_chat_events if answer.kind == "chat" else _text_events)(answer)
    if answer.include_usage:
        yield _event(answer, [], usage=answer.usage, system_fingerprint=FINGERPRINT)
    yield b"data: [DONE]\n\n"


def error(status: int, message: str, type: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": status}}


def embeddings(request: dict[str, Any]) -> dict[str, Any]:
    texts = [str(text) for text in request["input"]] if isinstance(request["input"], list) else [request["input"]]
    tokens = sum(count_tokens(text) for text in texts)
    return {
        "id": f"embd-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}",
        "object": "list",
        "created": int(time.time()),
        "model": request["model"],
        "data": [
            {"index": index, "object": "embedding", "embedding": _vector(text, request.get("encoding_format"))}
            for index, text in enumerate(texts)
        ],
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
    }


def _vector(text: str, encoding: str | None) -> list[float] | str:
    seed = hashlib.shake_256(text.encode()).digest(EMBEDDING_DIMENSIONS)
    values = [(byte - 127.5) / 127.5 for byte in seed]
    norm = sum(value * value for value in values) ** 0.5
    values = [value / norm for value in values]
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    return values


def _prompts(kind: str, request: dict[str, Any]) -> list[str]:
    if kind == "chat":
        return ["\n".join(f"{turn['role']}: {_text(turn.get('content'))}" for turn in request["messages"])]
    prompt = request["prompt"]
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [" ".join(map(str, prompt))]
    return [part if isinstance(part, str) else " ".join(map(str, part)) for part in prompt]


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content or ""


def _chat_events(answer: Answer) -> Iterator[bytes]:
    for index in range(len(answer.choices)):
        opening = {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        yield _event(answer, [opening], prompt_token_ids=None, prompt_text=None)
    for index, token, last in _interleaved(answer):
        choice: dict[str, Any] = {"index": index, "delta": {"content": token}, "logprobs": None}
        choice |= {"finish_reason": answer.finish_reason, "stop_reason": None} if last else {"finish_reason": None}
        yield _event(answer, [choice | {"token_ids": None}], **_fingerprint(answer, last=last))


def _text_events(answer: Answer) -> Iterator[bytes]:
    for index, token, last in _interleaved(answer):
        choice = {
            "index": index,
            "text": token,
            "logprobs": None,
            "finish_reason": answer.finish_reason if last else None,
            "stop_reason": None,
            "prompt_token_ids": None,
            "token_ids": None,
        }
        yield _event(answer, [choice], **_fingerprint(answer, last=last))


def _fingerprint(answer: Answer, *, last: bool) -> dict[str, Any]:
    return {"system_fingerprint": FINGERPRINT} if last and not answer.include_usage else {}


def _interleaved(answer: Answer) -> Iterator[tuple[int, str, bool]]:
    length = len(answer.choices[0])
    for at in range(length):
        for index, tokens in enumerate(answer.choices):
            yield index, tokens[at], at == length - 1


def _event(answer: Answer, choices: list[dict[str, Any]], **more: Any) -> bytes:
    fields = {
        "id": answer.id,
        "object": "chat.completion.chunk" if answer.kind == "chat" else "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
        **more,
    }
    return b"data: " + json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def _chat_choice(index: int, text: str, answer: Answer) -> dict[str, Any]:
    message = dict.fromkeys(("role", "content", "refusal", "annotations", "audio", "function_call", "reasoning"))
    return {
        "index": index,
        "message": message | {"role": "assistant", "content": text},
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "routed_experts": None,
    }


def _text_choice(index: int, text: str, answer: Answer) -> dict[str, Any]:
    return {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }
