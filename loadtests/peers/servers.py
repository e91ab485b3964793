"""The peers, each as one process in the setting that its documentation gives for production.

vllm-router is one process of several threads, and takes the cores that it finds; all others run on one core.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from redis import Redis

from loadtests.peers.installation import peer_program
from tests.debian import program
from tests.processes import Process, free_port, python

FOLDER = Path(__file__).parent
CHAT = "/v1/chat/completions"
MODEL = "smollm2-135m-instruct"
PROMPT_TOKENS = 40
START_S = 300


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that answers chat completions of `model` to `key`."""

    name: str
    url: str
    key: str
    pid: int
    model: str = MODEL

    @property
    def chat_url(self) -> str:
        return self.url + CHAT


class Servers:
    """Starts servers in `folder`, and stops them with `stack`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._numbers = itertools.count()

    def static_upstream(self) -> str:
        answer = (FOLDER / "answer.json").read_text().strip()
        tokens = ",".join(map(str, range(PROMPT_TOKENS)))
        return self._nginx("upstream", ANSWER=answer, TOKENS=tokens).url

    def stream_engine(self) -> Server:
        port = free_port()
        return self._start("straight", port, python("-m", "loadtests.peers.stream_engine", str(port)))

    def nginx(self, upstream: str) -> Server:
        return self._nginx("proxy", UPSTREAM_PORT=upstream.rpartition(":")[2])

    def vllm_router(self, upstream: str, policy: str = "round_robin") -> Server:
        """`round_robin` only passes on. The default, `cache_aware`, asks the engine for the prompt's tokens first."""
        port, metrics_port = free_port(), free_port()
        command = [peer_program("vllm-router"), "--host", "127.0.0.1", "--port", str(port), "--worker-urls", upstream]
        command += ["--policy", policy, "--prometheus-port", str(metrics_port)]
        return self._start(f"vllm-router {policy}", port, command)

    def litellm(self, upstreams: Mapping[str, str]) -> Server:
        """As its page on production says: LITELLM_MODE, JSON logs, errors only, one worker a core (here: one).

        `upstreams` has an engine's URL for each name of a model.
        """
        port, key = free_port(), "sk-peer"
        deployment = {"model": f"openai/{MODEL}", "api_key": "unused"}
        config = {
            "model_list": [
                {"model_name": name, "litellm_params": deployment | {"api_base": f"{upstream}/v1"}}
                for name, upstream in upstreams.items()
            ],
            "litellm_settings": {"set_verbose": False, "json_logs": True, "request_timeout": 600},
            "general_settings": {"master_key": key},
        }
        file = self._folder / "litellm.json"  # JSON is YAML
        file.write_text(json.dumps(config))
        command = [peer_program("litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        settings = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        return self._start("LiteLLM", port, [*command, "--num_workers", "1"], settings, key=key)

    def fastapi(self, upstream: str) -> Server:
        return self._uvicorn("FastAPI + aiohttp", "fastapi_pass_through", {"UPSTREAM": upstream})

    def asgi(self, upstream: str) -> Server:
        return self._uvicorn("ASGI + aiohttp", "asgi_pass_through", {"UPSTREAM": upstream})

    def empty_uvicorn(self) -> Server:
        return self._uvicorn("empty uvicorn", "empty", {})

    def redis_get(self, redis_url: str) -> Server:
        with Redis.from_url(redis_url) as redis:
            redis.set("answer", (FOLDER / "answer.json").read_text().strip())
        return self._uvicorn("uvicorn + Redis GET", "redis_get", {"REDIS_URL": redis_url})

    def _uvicorn(self, name: str, app: str, settings: Mapping[str, str]) -> Server:
        port = free_port()
        command = [peer_program("uvicorn"), f"{app}:app", "--app-dir", str(FOLDER / "apps"), "--port", str(port)]
        command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        return self._start(name, port, command, settings)

    def _nginx(self, kind: str, **values: str) -> Server:
        port = free_port()
        folder = self._new_folder(kind)
        written = (FOLDER / f"{kind}.nginx").read_text()
        for name, value in (values | {"PORT": str(port)}).items():
            written = written.replace(f"@{name}@", value)
        (folder / "nginx.conf").write_text(written)
        return self._start("nginx", port, [*program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"])

    def _start(
        self, name: str, port: int, command: list[str], settings: Mapping[str, str] | None = None, *, key: str = "none"
    ) -> Server:
        process = Process(command, log=self._new_folder(name) / "log", environment=settings)
        self._stack.callback(process.stop)
        server = Server(name, f"http://127.0.0.1:{port}", key, process.pid)
        process.wait_until(answers(server), timeout_s=START_S)
        return server

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / f"{next(self._numbers)}-{name.replace(' ', '')}"
        folder.mkdir()
        return folder


def answers(server: Server) -> Callable[[], bool]:
    """Whether the server gives the answer that it should, by now."""
    question = {"model": server.model, "messages": [{"role": "user", "content": "Are you there?"}], "max_tokens": 64}
    headers = {"authorization": f"Bearer {server.key}"}

    def ask() -> bool:
        try:
            answer = httpx.post(server.chat_url, json=question, headers=headers, timeout=10)
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and bool(answer.json()["choices"][0]["message"]["content"])

    return ask
