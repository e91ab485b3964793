"""The fake engine's routes."""

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from tests.fake_engine import answers
from tests.fake_engine.behaviour import INFERENCE_PATHS, POOLING_PATHS, Behaviour
from tests.fake_engine.connection import ClientGone, Connection, Ended, Request, Response, read_request
from tests.fake_engine.places import Places
from tests.fake_engine.prefix_cache import BLOCK_TOKENS, PrefixCache

HEALTHY = Behaviour()
REQUESTS_KEPT = 10_000


@dataclass(slots=True)
class Received:
    """One request as `GET /_fake/requests` shows it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    client_port: int
    chunks_sent: int = 0
    finished: bool = False
    client_gone: bool = False


class FakeEngine:
    def __init__(self, model: str, *, context_length: int) -> None:
        self._model, self._context_length = model, context_length
        self._adapters: dict[str, str] = {}
        self._behaviour = HEALTHY
        self._behaviour_left: int | None = None
        self._received: deque[Received] = deque(maxlen=REQUESTS_KEPT)
        self._running = 0
        self._asked: Counter[str | None] = Counter()
        self._told_of_adapters: dict[str, float] = {}
        self._prefix_cache = PrefixCache(0)
        self._prefill = asyncio.Lock()
        self._places = Places()

    async def serve(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self._converse), "127.0.0.1", port, backlog=2048)
        async with server:
            await server.serve_forever()

    async def _converse(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                if not await self._answer(connection, writer, request):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, connection: Connection, writer: asyncio.StreamWriter, request: Request) -> bool:
        """True when the connection can be used again."""
        if request.path.startswith("/_fake/") or request.method == "GET":
            await self._control(Response(connection, writer, HEALTHY), request)
            return True
        behaviour = self._next_behaviour(request.path)
        client_port = writer.get_extra_info("peername")[1]
        received = Received(request.method, request.path, request.headers, _decoded(request.body), client_port)
        self._received.append(received)
        response = Response(connection, writer, behaviour)
        self._running += 1
        model = received.body.get("model") if isinstance(received.body, dict) else None
        self._asked[model] += 1
        try:
            async with self._places.one_of(behaviour.capacity, connection):
                await self._infer(
                    connection, response, behaviour, request.path, received.body, request.headers.get("x-request-id")
                )
            received.finished = True
        except ClientGone:
            received.client_gone = True
            return False
        except Ended:
            return False
        finally:
            self._running -= 1
            self._asked[model] -= 1
            received.chunks_sent = response.chunks_sent
        return not behaviour.close_when_idle and request.headers.get("connection", "").lower() != "close"

    def _next_behaviour(self, path: str) -> Behaviour:
        if path not in self._behaviour.paths:
            return HEALTHY
        if self._behaviour_left is None:
            return self._behaviour
        if self._behaviour_left == 0:
            return HEALTHY
        self._behaviour_left -= 1
        return self._behaviour

    async def _infer(
        self,
        connection: Connection,
        response: Response,
        behaviour: Behaviour,
        path: str,
        request: Any,
        request_id: str | None,
    ) -> None:
        if behaviour.status is not None:
            refusal = answers.error(behaviour.status, "The fake engine was told to fail.", "InternalServerError")
            await response.whole(behaviour.status, refusal if behaviour.body is None else behaviour.body)
            return
        if path.endswith("_lora_adapter"):
            await response.whole(*self._change_adapters(path, request))
            return
        if path == "/tokenize":
            await response.whole(200, answers.tokenized(request))
            return
        if path not in INFERENCE_PATHS:
            await response.whole(404, {"detail": "Not Found"})
            return
        if (refusal := self._refusal(path, request)) is not None:
            await response.whole(refusal["error"]["code"], refusal)
            return
        if path in POOLING_PATHS:
            await connection.pause(behaviour.time_to_first_token_s)
            pooled = answers.embeddings if path == "/v1/embeddings" else answers.classification
            await response.whole(200, pooled(request))
            return
        kind = "chat" if path == "/v1/chat/completions" else "text"
        await self._compute_prompt(connection, behaviour, kind, request)
        answer = answers.answer_to(
            kind,
            request,
            tokens=behaviour.tokens,
            token_bytes=behaviour.token_bytes,
            silent_tokens=behaviour.silent_tokens,
            prefers=behaviour.prefers,
            says=behaviour.says,
            request_id=request_id,
        )
        if request.get("stream"):
            await self._stream(connection, response, behaviour, answer)
            return
        duration_s = behaviour.time_to_first_token_s + behaviour.time_between_tokens_s * (answer.completion_tokens - 1)
        await connection.pause(duration_s)
        body = answers.body(answer)
        answers.add_logprobs(body, request, behaviour.log_likelihood)
        await response.whole(200, body)

    async def _compute_prompt(
        self, connection: Connection, behaviour: Behaviour, kind: str, request: dict[str, Any]
    ) -> None:
        tokens = answers.prompt_tokens(kind, request)
        computed = len(tokens) - self._prefix_cache.admit([request["model"], *tokens])
        if behaviour.prefill_s_per_token:
            async with self._prefill:
                await connection.pause(max(1, computed) * behaviour.prefill_s_per_token)

    async def _stream(
        self, connection: Connection, response: Response, behaviour: Behaviour, answer: answers.Answer
    ) -> None:
        await response.head(200, "text/event-stream; charset=utf-8", length=None)
        opening = len(answer.choices) if answer.kind == "chat" else 0
        for number, event in enumerate(answers.events(answer)):
            if behaviour.error_after_chunks == number:
                failure = answers.error(500, "The fake engine failed in mid-stream.", "InternalServerError")
                await response.event(b"data: " + json.dumps(failure).encode() + b"\n\n")
                await response.event(b"data: [DONE]\n\n")
                break
            if number == 0:
                await connection.pause(behaviour.time_to_first_token_s)
            elif opening < number < opening + answer.completion_tokens:
                await connection.pause(behaviour.time_between_tokens_s)
            await response.event(event)
        await connection.pause(behaviour.end_delay_s)
        await response.end()

    def _refusal(self, path: str, request: Any) -> dict[str, Any] | None:
        """What vLLM says of a request that it cannot serve."""
        if not isinstance(request, dict) or "model" not in request:
            return answers.error(400, "The request is not valid.", "Bad Request")
        model = request["model"]
        if model != self._model and model not in self._adapters:
            return answers.error(404, f"The model `{model}` does not exist.", "NotFoundError", "model")
        if path in POOLING_PATHS:
            return None
        needed = answers.answer_to("chat" if "messages" in request else "text", request, tokens=0, token_bytes=None)
        asked = request.get("max_completion_tokens") or request.get("max_tokens") or 1
        if needed.prompt_tokens + asked <= self._context_length:
            return None
        message = (
            f"This model's maximum context length is {self._context_length} tokens. However, you requested {asked} "
            f"output tokens and your prompt contains {needed.prompt_tokens} input tokens, for a total of "
            f"{needed.prompt_tokens + asked} tokens. Please reduce the length of the input prompt or the number of "
            "requested output tokens."
        )
        return answers.error(400, message, "BadRequestError", "input_tokens")

    def _change_adapters(self, path: str, request: Any) -> tuple[int, Any]:
        name = request["lora_name"]
        if path == "/v1/load_lora_adapter":
            if name in self._adapters and not request.get("load_inplace"):
                message = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in "
                return 400, answers.error(400, f"{message}place, set 'load_inplace' to True.", "InvalidUserInput")
            self._adapters[name] = request["lora_path"]
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        if self._adapters.pop(name, None) is None:
            return 404, answers.error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    async def _control(self, response: Response, request: Request) -> None:
        match request.method, request.path:
            case "GET", "/health":
                await response.whole(self._behaviour.health_status, "")
            case "GET", "/metrics":
                await response.whole(200, self._metrics())
            case "GET", "/v1/models":
                cards = [self._card(name) for name in (self._model, *self._adapters)]
                await response.whole(200, {"object": "list", "data": cards})
            case "GET", "/_fake/requests":
                await response.whole(200, [asdict(received) for received in self._received])
            case "POST", "/_fake/behaviour":
                try:
                    self._behaviour = Behaviour.model_validate_json(request.body)
                except ValidationError as error:
                    await response.whole(422, str(error))
                    return
                self._behaviour_left = self._behaviour.for_requests
                self._resize_prefix_cache()
                await response.whole(200, {})
            case "POST", "/_fake/reset":
                self._behaviour, self._behaviour_left = HEALTHY, None
                self._received.clear()
                self._adapters.clear()
                self._prefix_cache = PrefixCache(0)
                await response.whole(200, {})
            case _:
                await response.whole(404, {"detail": "Not Found"})

    def _resize_prefix_cache(self) -> None:
        if self._behaviour.prefix_cache_tokens // BLOCK_TOKENS != self._prefix_cache.capacity_blocks:
            self._prefix_cache = PrefixCache(self._behaviour.prefix_cache_tokens)

    def _card(self, name: str) -> dict[str, Any]:
        parent = None if name == self._model else self._model
        return {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "vllm",
            "root": self._adapters.get(name, name),
            "parent": parent,
            "max_model_len": self._context_length,
            "permission": [],
        }

    def _metrics(self) -> str:
        labels = f'{{engine="0",model_name="{self._model}"}}'
        gauges = {
            "vllm:num_requests_running": self._running,
            "vllm:num_requests_waiting": self._behaviour.requests_waiting,
            "vllm:kv_cache_usage_perc": self._behaviour.kv_cache_usage,
        }
        counters = {
            "vllm:prefix_cache_queries": self._prefix_cache.queries,
            "vllm:prefix_cache_hits": self._prefix_cache.hits,
        }
        # vLLM keeps every series that it ever told, with the time at which it was true.
        running = ",".join(sorted(name for name in self._adapters if self._asked[name]))
        self._told_of_adapters[running] = time.time()
        adapters = "".join(
            f'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="{names}",waiting_lora_adapters=""}} {at}\n'
            for names, at in self._told_of_adapters.items()
        )
        cache = f'block_size="{BLOCK_TOKENS}",num_gpu_blocks="{self._prefix_cache.capacity_blocks}"'
        return "".join(
            [
                *(f"# TYPE {name} gauge\n{name}{labels} {float(value)}\n" for name, value in gauges.items()),
                *(f"# TYPE {name} counter\n{name}_total{labels} {float(value)}\n" for name, value in counters.items()),
                "# TYPE vllm:lora_requests_info gauge\n" + adapters,
                f"# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{{{cache}}} 1.0\n",
            ]
        )


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("latin-1")
