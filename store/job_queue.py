"""The Celery queue that carries the ids of jobs. SQL holds everything else."""

from celery import Celery

RUN_JOB = "flywheel.run_job"
VISIBILITY_TIMEOUT_S = 7 * 24 * 3600


def create_celery(broker_url: str) -> Celery:
    """Celery as producers and workers share it.

    A message is acknowledged when its job has ended, so a killed worker's job is delivered again. The visibility
    timeout is longer than any job, because past it Redis would deliver a running job a second time
    (docs.celeryq.dev, "Using Redis", "Visibility timeout"); the job's lease would refuse that one too.
    """
    celery = Celery("flywheel", broker=broker_url)
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_default_queue="cpu",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
        },
        worker_hijack_root_logger=False,
    )
    return celery


class JobQueue:
    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def enqueue(self, job_id: str, *, queue: str = "cpu") -> None:
        """Hands a job's id to the workers. Raises kombu's OperationalError when the broker is away."""
        self._celery.send_task(
            RUN_JOB, args=[job_id], queue=queue, task_id=job_id, retry=True, retry_policy={"max_retries": 2}
        )
