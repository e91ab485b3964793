"""Asks models through the gateway, or through an endpoint of somebody else, and counts what that took."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import openai

from contracts.evals import EXTERNAL, ModelUsage
from contracts.settings import ExternalEndpoint
from workers.gateway import Caller
from workers.run import JobFailed

TRIES = 8
"""Of a request that was refused for now, or met a gateway that is being restarted; pauses double up to 8 s."""
ANSWER_TIMEOUT_S = 600.0
LATER_THAN_USERS = 100
"""Priority among the tenant's own requests; lower is earlier."""
FATAL = frozenset({401, 403, 404})
"""Statuses that every other row would meet too."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    finish_reason: str
    usage: ModelUsage


class NoAnswer(Exception):
    """The model refused this one question: it is too long, for example."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Models:
    """Thread-safe. Every method raises JobFailed where no question would be answered, NoAnswer where this one was not,
    and ConnectionError where nobody answered, which is worth another attempt at the job.
    """

    def __init__(self, caller: Caller, endpoints: Mapping[str, ExternalEndpoint]) -> None:
        self._endpoints = endpoints
        self._http = openai.DefaultHttpxClient(timeout=ANSWER_TIMEOUT_S, trust_env=False)
        self._gateway = self._client(caller.url, caller.secret)
        self._others: dict[str, openai.OpenAI] = {}
        self._used: dict[str, list[ModelUsage]] = defaultdict(list)
        self._lock = threading.Lock()

    def chat(
        self, model: str, messages: Sequence[Mapping[str, str]], *, may_be_kept: bool, **parameters: Any
    ) -> Answer:
        """`may_be_kept`: an answer to the same question from the cache is as good, and is kept for the next time."""
        client, name, ours = self._of(model)
        extra: dict[str, Any] = {}
        if ours:
            extra["extra_headers"] = {} if may_be_kept else {"cache-control": "no-store, no-cache"}
            extra["extra_body"] = {"priority": LATER_THAN_USERS}
        wanted: dict[str, Any] = {"model": name, "messages": list(messages), **parameters, **extra}
        said = self._asking(model, lambda: client.chat.completions.create(**wanted))
        usage = self._note(model, said.usage)
        return Answer(said.choices[0].message.content or "", said.choices[0].finish_reason or "stop", usage)

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        client, name, _ = self._of(model)
        said = self._asking(
            model, lambda: client.embeddings.create(model=name, input=list(texts), encoding_format="float")
        )
        self._note(model, said.usage)
        return [each.embedding for each in sorted(said.data, key=lambda each: each.index)]

    def log_likelihood(self, model: str, text: str) -> float:
        """Of a text's tokens after the first one, in nats; of vLLM's own servers only."""
        client, name, ours = self._of(model)
        extra: dict[str, Any] = {"prompt_logprobs": 0} | ({"priority": LATER_THAN_USERS} if ours else {})
        said = self._asking(
            model,
            lambda: client.completions.create(
                model=name, prompt=text, max_tokens=1, temperature=0, seed=0, extra_body=extra
            ),
        )
        self._note(model, said.usage)
        told = said.choices[0].model_extra.get("prompt_logprobs")
        if not told:
            raise JobFailed("no_log_likelihoods", f"`{model}` does not tell how likely it finds a text.")
        return float(sum(_of_prompt(of_token) for of_token in told[1:]))

    def usage(self) -> tuple[ModelUsage, ...]:
        """What each model was asked."""
        with self._lock:
            return tuple(_sum(model, used) for model, used in sorted(self._used.items()))

    def close(self) -> None:
        self._http.close()

    def _asking(self, model: str, ask: Any) -> Any:
        try:
            return ask()
        except openai.APIConnectionError as error:
            raise ConnectionError(f"`{model}` could not be asked") from error
        except openai.APIStatusError as error:
            code, message = str(error.code or error.status_code), _message_of(error)
            if error.status_code in FATAL or code == "insufficient_quota":
                raise JobFailed(code, f"`{model}` cannot be asked: {message}") from None
            if (
                error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
                or error.status_code == HTTPStatus.TOO_MANY_REQUESTS
            ):
                raise ConnectionError(f"`{model}` could not be asked: {message}") from None
            raise NoAnswer(code, message) from None

    def _of(self, model: str) -> tuple[openai.OpenAI, str, bool]:
        if not model.startswith(EXTERNAL):
            return self._gateway, model, True
        endpoint = self._endpoints.get(model.removeprefix(EXTERNAL))
        if endpoint is None:
            raise JobFailed("model_not_found", f"This worker knows no endpoint for `{model}`.")
        with self._lock:
            if model not in self._others:
                self._others[model] = self._client(endpoint.base_url, endpoint.api_key.get_secret_value() or "none")
            return self._others[model], endpoint.model, False

    def _client(self, url: str, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=url, api_key=key, max_retries=TRIES, http_client=self._http)

    def _note(self, model: str, used: Any) -> ModelUsage:
        details = getattr(used, "prompt_tokens_details", None)
        usage = ModelUsage(
            model_name=model,
            invocation_count=1,
            prompt_tokens=getattr(used, "prompt_tokens", None) or 0,
            completion_tokens=getattr(used, "completion_tokens", None) or 0,
            total_tokens=getattr(used, "total_tokens", None) or 0,
            cached_tokens=getattr(details, "cached_tokens", None) or 0,
        )
        with self._lock:
            self._used[model] = [_sum(model, [*self._used[model], usage])]
        return usage


def _of_prompt(told: Mapping[str, Mapping[str, Any]]) -> float:
    """Besides the prompt's token, which comes first, vLLM may tell likelier ones."""
    return float(next(iter(told.values()))["logprob"])


def _sum(model: str, used: Sequence[ModelUsage]) -> ModelUsage:
    counted = {
        name: sum(getattr(each, name) for each in used) for name in ModelUsage.model_fields if name != "model_name"
    }
    return ModelUsage(model_name=model, **counted)


def _message_of(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)
