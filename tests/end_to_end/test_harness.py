"""lm-evaluation-harness on real parts: through the gateway as a job, and by itself straight at vLLM."""

import asyncio
import re
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts.engine import EngineLease
from store.database import Database
from store.leases import LeaseStore
from store.models import ModelRepository
from tests.end_to_end.conftest import SLOW_S, TEXT_MODEL, Stack
from tests.workers.evaluate.harness_bench import RUNS, figures, straight, straight_figures

pytestmark = [pytest.mark.real_stack, pytest.mark.long, pytest.mark.timeout(SLOW_S)]

TASKS = ["local_commonsense_qa", "local_word_problems", "local_story_perplexity"]
LIMIT = 16
NOISE = 2e-3
"""Relative, of perplexities: vLLM's sums in bfloat16 depend on which requests it computes together."""


def test_scores_through_the_stack_are_those_straight_at_vllm(stack: Stack):
    printed = stack.flywheel(
        "eval", "harness", TEXT_MODEL, "--tasks", ",".join(TASKS), "--limit", str(LIMIT), "--watch"
    )
    found = re.search(r"ftjob-[0-9a-f]+", printed)
    assert found is not None, printed
    run: Any = stack.client().get(f"{RUNS.removeprefix('/v1')}/{found[0]}", cast_to=dict[str, Any])
    assert run["status"] == "succeeded", run
    assert all(task in printed for task in TASKS)

    card = ModelRepository(Database(stack.local["settings"]["FLYWHEEL_DATABASE_URL"])).get(TEXT_MODEL)
    assert card is not None
    bare = straight(
        {
            "url": engine_of(stack).url,
            "model": TEXT_MODEL,
            "tokenizer": card.weights,
            "context_length": card.context_length,
            "tasks": TASKS,
            "limit": LIMIT,
        },
        timeout_s=600,
    )
    assert figures(run["scores"]) == pytest.approx(straight_figures(bare), rel=NOISE)


def engine_of(stack: Stack) -> EngineLease:
    async def find() -> list[EngineLease]:
        async with Redis.from_url(stack.local["settings"]["FLYWHEEL_REDIS_URL"]) as redis:
            return await LeaseStore(redis).alive()

    return next(lease for lease in asyncio.run(find()) if lease.model == TEXT_MODEL)
