"""What a policy makes of a request before anybody else sees it: cache, engine, capture."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from contracts.errors import ContentFiltered, InvalidValue
from contracts.openai import ChatCompletionRequest, CompletionRequest, DataPathRequest, PoolingRequest
from contracts.personal_data import Kind, redact
from gateway.guardrails.acts import Act
from gateway.guardrails.guards import Guards, describe
from gateway.guardrails.request_texts import has_token_ids, texts_from_outside, texts_of, with_texts
from gateway.relay.exchange import HeaderList

GUARDRAILS_HEADER = b"x-flywheel-guardrails"
"""Which guardrails found something in the prompt, where it was answered all the same."""
LONG_BYTES = 32 * 1024
"""From here on a body is looked at in a thread, so that other requests do not wait for it."""
LONG_TO_JUDGE_BYTES = 2 * 1024
"""As `LONG_BYTES`, where a classifier judges the text, too."""
SCHEMA_NAME = "answer"
TELL_TOKENS = ("logprobs", "top_logprobs", "prompt_logprobs", "return_token_ids")
NOT_BESIDE_A_SCHEMA = ("tools", "structured_outputs", "echo")


@dataclass(slots=True)
class RequestGuard:
    """Goes over one request. `acts` and `headers` tell what was done, also where it was refused."""

    guards: Guards
    prompt_field: str
    acts: list[Act] = field(default_factory=list)
    headers: HeaderList = field(default_factory=list)

    async def check(self, request: DataPathRequest, body: bytes) -> bytes:
        """The body that goes on. Raises ContentFiltered and InvalidValue."""
        if isinstance(request, ChatCompletionRequest | CompletionRequest):
            self._check_form(request)
        elif not self.guards.reads_input:
            return body
        if len(body) > (LONG_TO_JUDGE_BYTES if self.guards.judges_input else LONG_BYTES):
            return await asyncio.to_thread(self._check_texts, request, body)
        return self._check_texts(request, body)

    def _check_texts(self, request: DataPathRequest, body: bytes) -> bytes:
        document: dict[str, Any] = msgspec.json.decode(body)
        guards, masked = self.guards, document
        if guards.reads_input:
            self._check_readable(document)
        if guards.masked_input is not None:
            masked = self._mask(document, guards.masked_input)
        if guards.input_topics is not None:
            self._check_topics(document)
        if guards.judges_input:
            self._judge(document)
        changed = masked != document
        if guards.policy.output_schema is not None and not isinstance(request, PoolingRequest):
            changed |= self._ask_for_schema(masked, guards.policy.output_schema)
        return msgspec.json.encode(masked) if changed else body

    def _check_form(self, request: ChatCompletionRequest | CompletionRequest) -> None:
        guards = self.guards
        if guards.masked_output or guards.output_topics or guards.judges_output:
            for name in TELL_TOKENS:
                if getattr(request, name, None) not in (None, False):
                    raise InvalidValue(
                        f"`{name}` cannot be used with this API key, whose answers are guarded.", param=name
                    )
        if guards.schema is not None:
            for name in NOT_BESIDE_A_SCHEMA:
                if getattr(request, name, None):
                    raise InvalidValue(
                        f"`{name}` cannot be used with this API key, whose answers follow its own schema.", param=name
                    )

    def _check_readable(self, document: dict[str, Any]) -> None:
        if (name := has_token_ids(document)) is not None:
            raise InvalidValue(f"`{name}` must be text for this API key, whose prompts are guarded.", param=name)

    def _mask(self, document: dict[str, Any], kinds: frozenset[Kind]) -> dict[str, Any]:
        counts: Counter[Kind] = Counter()

        def mask(text: str) -> str:
            redacted = redact(text, kinds)
            counts.update(redacted.counts)
            return redacted.text

        masked = with_texts(document, mask)
        if counts:
            self.acts.append(Act("personal_data", "input", "masked", describe(counts)))
            self.headers.append((GUARDRAILS_HEADER, b"personal_data"))
        return masked

    def _check_topics(self, document: dict[str, Any]) -> None:
        assert self.guards.input_topics is not None
        for text in texts_of(document):
            if (found := self.guards.input_topics.find(text)) is not None:
                self.acts.append(Act("topic", "input", "refused", found.topic))
                raise ContentFiltered(
                    f"The prompt is about `{found.topic}`, which this API key may not be used for.",
                    param=self.prompt_field,
                )

    def _judge(self, document: dict[str, Any]) -> None:
        """Injections come from outside; what is harmful may come from anybody."""
        rule = self.guards.policy.injection
        if rule is not None:
            score = max(map(self.guards.injection, texts_from_outside(document)), default=0.0)
            if score >= rule.threshold:
                self._note_injection(score, refuse=rule.action == "refuse")
        if not self.guards.policy.moderates("input"):
            return
        for text in texts_of(document):
            if (category := self.guards.harmful(text)) is not None:
                self.acts.append(Act("moderation", "input", "refused", category))
                raise ContentFiltered(f"The prompt was judged as `{category}`.", param=self.prompt_field)

    def _note_injection(self, score: float, *, refuse: bool) -> None:
        self.acts.append(Act("injection", "input", "refused" if refuse else "annotated", f"{score:.2f}"))
        if refuse:
            raise ContentFiltered(
                "The prompt was judged as an attempt to give the model other instructions.", param=self.prompt_field
            )
        self.headers.append((GUARDRAILS_HEADER, b"injection;score=%.2f" % score))

    @staticmethod
    def _ask_for_schema(document: dict[str, Any], schema: dict[str, Any]) -> bool:
        """Whether the document was changed. Raises InvalidValue where the client asks for another form."""
        asked = document.get("response_format")
        if asked is not None and asked.get("type") != "text":
            if (asked.get("json_schema") or {}).get("schema") == schema:
                return False
            raise InvalidValue(
                "This API key's answers follow a schema of its own: leave `response_format` out.",
                param="response_format",
            )
        document["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": SCHEMA_NAME, "schema": schema, "strict": True},
        }
        return True
