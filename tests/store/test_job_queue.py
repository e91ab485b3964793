import json

import pytest
from kombu.exceptions import OperationalError
from redis import Redis

from store.job_queue import RUN_JOB, JobQueue, create_celery
from tests.processes import free_port


def test_celery_carries_the_id_and_nothing_else(redis_url: str) -> None:
    JobQueue(create_celery(redis_url)).enqueue("ftjob-1", queue="cpu")
    with Redis.from_url(redis_url) as redis:
        (raw,) = redis.lrange("cpu", 0, -1)
    message = json.loads(raw)
    assert message["headers"]["task"] == RUN_JOB
    assert message["headers"]["id"] == "ftjob-1"
    assert message["headers"]["argsrepr"] == "['ftjob-1']"


def test_a_broker_that_is_away_is_an_error_and_not_a_hang() -> None:
    queue = JobQueue(create_celery(f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(OperationalError):
        queue.enqueue("ftjob-1")
