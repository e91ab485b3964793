"""A model of lm-evaluation-harness that is asked through the gateway, for texts and for likelihoods of texts."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from workers.gateway import Caller
from workers.run import JobFailed

LATER_THAN_USERS = 100
"""Priority among the tenant's own requests; lower is earlier."""
TRIES = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
ANSWER_TIMEOUT_S = 600.0
LOOK_EVERY_S = 0.2


def _nobody(_answered: int, _of: int) -> None:
    return


class GatewayModel(LocalCompletionsAPI):  # type: ignore[misc]  # lm_eval has no types
    """The harness' own client for `/v1/completions`, with its payloads and its reading of answers.

    Other than that one it stops when `check` raises, tells how far it is, tries again only what may succeed, and keeps
    the engine busy over all texts of a perplexity. Answers are not cached: those with likelihoods are large, and would
    take the room of users' answers. Asking raises JobFailed where an answer is refused, ConnectionError where nobody
    answers, and what `check` raises.
    """

    def __init__(
        self,
        caller: Caller,
        model: str,
        *,
        tokenizer: Path,
        context_length: int,
        at_once: int,
        check: Callable[[], None],
    ) -> None:
        super().__init__(
            model=model,
            base_url=f"{caller.url}/completions",
            tokenizer_backend="huggingface",
            tokenizer=str(tokenizer),
            max_length=context_length,
            num_concurrent=max(2, at_once),  # below that the harness takes another path, of its own
            header={"authorization": f"Bearer {caller.secret}", "cache-control": "no-store, no-cache"},
        )
        self._check = check
        self.told: Callable[[int, int], None] = _nobody

    async def get_batched_requests(
        self,
        requests: Sequence[Any],
        cache_keys: Sequence[Any],  # noqa: ARG002 (of the harness' own cache)
        *,
        generate: bool = True,
        ctxlens: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> list[list[Any]]:
        places = asyncio.Semaphore(self._concurrent)
        connector = aiohttp.TCPConnector(limit=self._concurrent)
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self.header) as session:
            tasks = [
                asyncio.create_task(self._ask(session, places, request, generate, context, **kwargs))
                for request, context in zip(requests, ctxlens or itertools.repeat(None), strict=False)
            ]
            try:
                await self._finish(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return [task.result() for task in tasks]

    def loglikelihood_rolling(self, requests: list[Instance], **_: Any) -> list[float]:
        """The windows of all texts at once; the harness' own way waits for each text before it begins the next."""
        windows: list[tuple[None, list[int], list[int]]] = []
        counts = []
        for (text,) in (request.args for request in requests):
            of_text = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            before = len(windows)
            windows += [(None, *make_disjoint_window(window)) for window in of_text]
            counts.append(len(windows) - before)
        found = iter(self._loglikelihood_tokens(windows))
        return [sum(likelihood for likelihood, _ in itertools.islice(found, count)) for count in counts]

    async def _finish(self, tasks: Sequence["asyncio.Task[list[Any]]"]) -> None:
        """Raises what the first task raises that fails."""
        pending = set(tasks)
        while pending:
            self._check()
            ended, pending = await asyncio.wait(pending, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
            self.told(len(tasks) - len(pending), len(tasks))

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        places: asyncio.Semaphore,
        request: Any,
        generate: bool,
        context: int | None,
        *,
        gen_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        payload = self._create_payload(
            self.create_message([request]),
            generate=generate,
            gen_kwargs=dict(gen_kwargs or {}),
            seed=self._seed,
            **kwargs,
        )
        async with places:
            answer = await self._answer_to(session, payload | {"priority": LATER_THAN_USERS})
        if generate:
            return [text or "" for text in self.parse_generations(answer)]
        return self.parse_logprobs(answer, ctxlens=[context])  # type: ignore[no-any-return]

    async def _answer_to(self, session: aiohttp.ClientSession, payload: dict[str, Any]) -> Any:
        pause_s, reason = FIRST_PAUSE_S, ""
        for _ in range(TRIES):
            try:
                async with session.post(self.base_url, json=payload) as response:
                    told = await response.json(content_type=None)
                    if response.status == HTTPStatus.OK:
                        return told
                    code, reason = _error_of(told, response.status)
                    if response.status < HTTPStatus.INTERNAL_SERVER_ERROR and not _may_pass(response.status, code):
                        raise JobFailed(code, f"`{self.model}` cannot be asked: {reason}")
                    pause_s = float(response.headers.get("retry-after") or pause_s)
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = type(error).__name__
            await asyncio.sleep(min(pause_s, LONGEST_PAUSE_S))
            pause_s *= 2
        raise ConnectionError(f"`{self.model}` could not be asked: {reason}")


def _may_pass(status: int, code: str) -> bool:
    return status == HTTPStatus.TOO_MANY_REQUESTS and code != "insufficient_quota"


def _error_of(told: Any, status: int) -> tuple[str, str]:
    error = told.get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return str(status), f"the answer had the status {status}."
    return str(error.get("code") or status), str(error.get("message"))
