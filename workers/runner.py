"""Runs one job from its lease to its end."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog
from kombu.exceptions import OperationalError
from opentelemetry import propagate, trace

from contracts.invalidation import Invalidation
from contracts.jobs import Job, JobError
from contracts.models import ModelCard
from store.artifacts import ArtifactRefused
from store.job_queue import JobQueue
from store.jobs import JobRepository, LeaseLost
from workers.heartbeat import Heartbeat, JobCancelled, JobInterrupted
from workers.registry import JobFamilies
from workers.run import JobFailed, JobResources, JobResult, JobRun, artifact_folder

MAX_ATTEMPTS = 10
"""A job that kills its workers (by taking all memory, say) must not do so for ever."""

log = structlog.get_logger(__name__)


class JobRunner:
    """Takes a job under a fenced lease and brings it to an end, or gives it back.

    A message may come twice, or for a job that has ended: then nothing happens. Never raises for what a job does;
    raises SQLAlchemyError when the database is away.
    """

    def __init__(
        self,
        *,
        jobs: JobRepository,
        queue: JobQueue,
        families: JobFamilies,
        resources: JobResources,
        announce: Callable[[Invalidation], None],
        tracer: trace.Tracer,
        must_stop: Callable[[], bool],
        lease_s: float,
        poll_s: float,
    ) -> None:
        self._jobs, self._queue, self._families, self._resources = jobs, queue, families, resources
        self._announce, self._tracer, self._must_stop = announce, tracer, must_stop
        self._lease_s, self._poll_s = lease_s, poll_s

    def run_job(self, job_id: str) -> None:
        taken = self._jobs.acquire(job_id, lease_s=self._lease_s)
        if taken is None:
            log.info("job not taken: it has ended or another worker runs it", job=job_id)
            return
        job, fence = taken
        with (
            structlog.contextvars.bound_contextvars(job=job_id),
            self._tracer.start_as_current_span(
                f"run_job {job.family}",
                context=propagate.extract(job.trace_context),
                kind=trace.SpanKind.CONSUMER,
                attributes={
                    "flywheel.job.id": job_id,
                    "flywheel.job.family": job.family,
                    "flywheel.job.tenant": job.tenant,
                    "flywheel.job.attempt": fence,
                },
            ) as span,
        ):
            outcome = self._outcome(job, fence)
            if outcome != "succeeded":
                self._resources.artifacts.delete(artifact_folder(job.id, fence))
            span.set_attribute("flywheel.job.outcome", outcome)
            if outcome == "failed":
                span.set_status(trace.StatusCode.ERROR)
            log.info("job left", outcome=outcome, attempt=fence)

    def _outcome(self, job: Job, fence: int) -> str:
        try:
            with Heartbeat(
                self._jobs,
                job.id,
                fence,
                lease_s=self._lease_s,
                interval_s=self._poll_s,
                must_stop=self._must_stop,
            ) as heartbeat:
                return self._attempt(job, fence, heartbeat)
        except JobCancelled:
            return "cancelled"
        except LeaseLost:
            now = self._jobs.get(job.id)
            return "cancelled" if now is not None and now.status == "cancelled" else "lease_lost"
        except JobInterrupted:
            # Only now that the heartbeat has ended: its next beat would take the lease back.
            return self._give_back(job, fence)

    def _attempt(self, job: Job, fence: int, heartbeat: Heartbeat) -> str:
        try:
            result = self._work(job, fence, heartbeat)
        except (JobCancelled, JobInterrupted, LeaseLost):
            raise
        except JobFailed as failure:
            log.info("job failed", code=failure.code, reason=failure.message)
            return self._fail(job, fence, JobError(code=failure.code, message=failure.message, param=failure.param))
        except Exception:  # the boundary between a job and its worker
            log.exception("job failed unexpectedly")
            message = "The job failed because of an error on our side. The worker's log has the details."
            return self._fail(job, fence, JobError(code="internal_error", message=message))
        return self._succeed(job, fence, result)

    def _work(self, job: Job, fence: int, heartbeat: Heartbeat) -> JobResult:
        if fence > MAX_ATTEMPTS:
            raise JobFailed("too_many_attempts", f"The job was begun {MAX_ATTEMPTS} times and never came to an end.")
        log.info("job started", family=job.family, attempt=fence)
        family = self._families.get(job.family)
        with tempfile.TemporaryDirectory(prefix="flywheel-job-") as scratch:
            run = JobRun(job, fence, Path(scratch), self._resources, self._jobs, heartbeat)
            run.check()
            run.message("The job started." if fence == 1 else f"The job started again (attempt {fence}).")
            result = family(job.spec, run)
            run.check()
            if result.model is not None:
                self._check_model(result.model)
            return result

    def _check_model(self, model: ModelCard) -> None:
        """Nothing enters the registry that engines would refuse."""
        try:
            self._resources.artifacts.check_model(model.weights)
        except ArtifactRefused as refusal:
            raise JobFailed("model_refused", f"The model cannot be registered. {refusal}") from refusal

    def _succeed(self, job: Job, fence: int, result: JobResult) -> str:
        model = result.model
        self._jobs.finish(
            job.id,
            fence,
            "succeeded",
            message=result.message,
            result_model=None if model is None else model.name,
            trained_tokens=result.trained_tokens,
            model=model,
        )
        if model is not None:
            self._announce(Invalidation(kind="model", id=model.name))
        return "succeeded"

    def _fail(self, job: Job, fence: int, error: JobError) -> str:
        self._jobs.finish(job.id, fence, "failed", message=error.message, error=error)
        return "failed"

    def _give_back(self, job: Job, fence: int) -> str:
        try:
            self._jobs.add_event(job.id, fence, "The worker stops. The job waits for another one.", level="warn")
            self._jobs.release(job.id, fence)
        except LeaseLost:
            return "lease_lost"
        try:
            self._queue.enqueue(job.id)
        except OperationalError as error:
            log.warning("job not enqueued; a sweeper will", reason=type(error).__name__)
        return "given_back"
