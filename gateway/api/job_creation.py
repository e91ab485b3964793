"""Makes jobs: a row, then a message with its id."""

from typing import Any

import structlog
from kombu.exceptions import OperationalError
from opentelemetry import propagate, trace

from contracts.errors import ServiceUnavailable
from contracts.jobs import Job, JobError, JobQueueName
from store.job_queue import JobQueue
from store.jobs import JobRepository


class JobCreation:
    """Synchronous. `default_queue` takes the jobs that run anywhere."""

    def __init__(
        self, jobs: JobRepository, queue: JobQueue, tracer: trace.Tracer, *, default_queue: JobQueueName
    ) -> None:
        self._jobs = jobs
        self._queue = queue
        self._tracer = tracer
        self._default_queue = default_queue
        self._log = structlog.get_logger(__name__)

    def create(
        self, family: str, *, tenant: str, spec: dict[str, Any], needs_gpu: bool = False, priority: int = 0
    ) -> Job:
        """Only the row, which knows the trace it was made in; `enqueue` comes next."""
        with self._tracer.start_as_current_span("create_job", kind=trace.SpanKind.PRODUCER) as span:
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            queue = "gpu" if needs_gpu else self._default_queue
            job = self._jobs.create(
                family=family, tenant=tenant, spec=spec, trace_context=carrier, queue=queue, priority=priority
            )
            span.set_attributes({"flywheel.job.id": job.id, "flywheel.job.family": family})
            return job

    def enqueue(self, job: Job) -> None:
        """Raises ServiceUnavailable; the job then counts as failed."""
        try:
            self._queue.enqueue(job.id, queue=job.queue)
        except OperationalError:
            self._log.error("job not queued", job=job.id)
            reason = "The job queue could not be reached."
            self._jobs.fail(job.id, JobError(code="queue_unavailable", message=reason))
            raise ServiceUnavailable(f"{reason} Try again shortly.", retry_after_s=5) from None
