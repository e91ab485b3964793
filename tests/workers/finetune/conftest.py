from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.finetune.bench import Bench


@pytest.fixture(scope="session")
def bench(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One for the whole run: what a job made, others may start from."""
    bench = Bench(tmp_path_factory.mktemp("bench"), redis_url=valkey)
    yield bench
    bench.database.dispose()


@pytest.fixture(scope="session")
def tiny(bench: Bench) -> Path:
    """Bases named `tiny-text` and `tiny-encoder`, random and of a few kilobytes. The folder of their weights."""
    bench.python("-m", "tests.workers.finetune.tiny_models", str(bench.folder))
    bench.add_base("tiny-text", bench.folder / "causal", "generate", context_length=256)
    bench.add_base("tiny-encoder", bench.folder / "encoder", "embed", context_length=128)
    return bench.folder
