"""`python -m inference.runners.token_classification`: serves a token classifier at `/classify`.

vLLM computes scores for tokens too, but tells neither the tokens nor where they stand in the text, so that nobody
could say which word a score is about (decision 015). The agent starts this in vLLM's place.
"""

import argparse
import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from transformers import AutoModelForTokenClassification, AutoTokenizer

from contracts.classification import (
    ClassificationUsage,
    TextEntities,
    TokenClassificationAnswer,
    WordLabel,
)
from contracts.openai import ClassificationRequest
from inference.runners.entities import entities_of
from telemetry.logs import configure_logs

BAD_REQUEST = 400


class Refused(Exception):
    """The request cannot be answered; the message is for the client."""


class Tagger:
    """A model and its tokenizer. A word's label is that of its first token, as is usual in training."""

    def __init__(self, folder: Path, *, context_length: int) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForTokenClassification.from_pretrained(folder, use_safetensors=True).to(device).eval()
        self._context_length = context_length

    def encode(self, text: str, *, truncate: int | None) -> Any:
        """Raises Refused for a text that is too long."""
        limit = None if truncate is None else (self._context_length if truncate < 0 else truncate)
        encoding = self._tokenizer(text, truncation=limit is not None, max_length=limit)
        tokens = len(encoding["input_ids"])
        if tokens > self._context_length:
            raise Refused(f"This model's maximum context length is {self._context_length} tokens; a text has {tokens}.")
        return encoding

    @torch.inference_mode()
    def label(self, encodings: list[Any]) -> list[list[WordLabel]]:
        """The labels of every text's words, in one pass through the model."""
        batch = self._tokenizer.pad([dict(one) for one in encodings], return_tensors="pt").to(self._model.device)
        scores = torch.softmax(self._model(**batch).logits.float(), dim=-1)
        best = scores.max(dim=-1)
        labels: dict[int, str] = self._model.config.id2label
        return [
            [
                WordLabel(labels[ids[first]], start, end, values[first])
                for first, start, end in _words_of(encodings[row])
            ]
            for row, (ids, values) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        ]


def _words_of(encoding: Any) -> list[tuple[int, int, int]]:
    """Of each word: its first token, and where it begins and ends in the text."""
    words: list[tuple[int, int, int]] = []
    last = None
    offsets = encoding.encodings[0].offsets
    for token, word in enumerate(encoding.word_ids()):
        if word is None:
            continue
        start, end = offsets[token]
        if word == last:
            first, began, _ = words[-1]
            words[-1] = (first, began, end)
        else:
            words.append((token, start, end))
        last = word
    return words


@dataclass(slots=True)
class _Waiting:
    encoding: Any
    labels: asyncio.Future[list[WordLabel]]


class Batches:
    """Labels together what waits together: at most `size` texts a pass, one pass at a time, in a thread."""

    def __init__(self, tagger: Tagger, size: int) -> None:
        self._tagger = tagger
        self._size = size
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.running = 0

    @property
    def waiting(self) -> int:
        return self._waiting.qsize()

    async def label(self, encodings: list[Any]) -> list[list[WordLabel]]:
        loop = asyncio.get_running_loop()
        mine = [_Waiting(encoding, loop.create_future()) for encoding in encodings]
        for one in mine:
            self._waiting.put_nowait(one)
        return list(await asyncio.gather(*(one.labels for one in mine)))

    async def run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [one for one in batch if not one.labels.cancelled()]  # their clients have left
            if batch:
                await self._label(batch)

    async def _label(self, batch: list[_Waiting]) -> None:
        self.running = len(batch)
        try:
            found = await asyncio.to_thread(self._tagger.label, [one.encoding for one in batch])
        except RuntimeError as error:  # torch's, for example of memory
            for one in batch:
                if not one.labels.done():
                    one.labels.set_exception(error)
            return
        finally:
            self.running = 0
        for one, labels in zip(batch, found, strict=True):
            if not one.labels.done():
                one.labels.set_result(labels)


def create_app(tagger: Tagger, *, model: str, max_num_seqs: int) -> FastAPI:
    batches = Batches(tagger, max_num_seqs)
    decoder = msgspec.json.Decoder(ClassificationRequest)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.work = asyncio.create_task(batches.run())
        yield
        app.state.work.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=503 if app.state.work.done() else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """What the agent reads of vLLM's metrics."""
        gauges = {"running": batches.running, "waiting": batches.waiting}
        lines = [
            f'# TYPE vllm:num_requests_{name} gauge\nvllm:num_requests_{name}{{model_name="{model}"}} {value}\n'
            for name, value in gauges.items()
        ]
        return Response("".join(lines), media_type="text/plain")

    @app.post("/classify")
    async def classify(request: Request) -> Response:
        try:
            asked = decoder.decode(await request.body())
            texts = _texts(asked)
            truncate = asked.truncate_prompt_tokens
            encodings = [await asyncio.to_thread(tagger.encode, text, truncate=truncate) for text in texts]
        except (msgspec.DecodeError, Refused) as error:
            refusal = {"message": str(error), "type": "BadRequestError", "param": "input", "code": BAD_REQUEST}
            return _json({"error": refusal}, status=BAD_REQUEST)
        labels = await batches.label(encodings)
        tokens = sum(len(encoding["input_ids"]) for encoding in encodings)
        answer = TokenClassificationAnswer(
            id=f"classify-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=asked.model,
            data=[
                TextEntities(index, entities_of(text, words), words)
                for index, (text, words) in enumerate(zip(texts, labels, strict=True))
            ],
            usage=ClassificationUsage(prompt_tokens=tokens, total_tokens=tokens),
        )
        return _json(answer)

    return app


def _texts(request: ClassificationRequest) -> list[str]:
    """Raises Refused for token ids: without their text there is no place to tell."""
    texts = [request.input] if isinstance(request.input, str) else request.input
    if not texts or not all(isinstance(text, str) for text in texts):
        raise Refused("`input` must be a text or a list of texts.")
    return [text for text in texts if isinstance(text, str)]


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m inference.runners.token_classification")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, required=True)
    options = parser.parse_args()
    configure_logs("flywheel-engine", "INFO")
    tagger = Tagger(options.model, context_length=options.max_model_len)
    app = create_app(tagger, model=options.served_model_name, max_num_seqs=options.max_num_seqs)
    uvicorn.run(app, host=options.host, port=options.port, access_log=False, log_config=None)


if __name__ == "__main__":
    main()
