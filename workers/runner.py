"""Runs one job from its lease to its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from kombu.exceptions import OperationalError
from opentelemetry import propagate, trace

from contracts.invalidation import Invalidation
from contracts.jobs import STARTED, Job, JobError, RetryPolicy
from contracts.models import ModelCard
from store.artifacts import ArtifactRefused, ArtifactsUnavailable
from store.job_queue import JobQueue
from store.job_rows import LeaseLost
from store.jobs import JobRepository
from workers.heartbeat import Heartbeat, JobCancelled, JobInterrupted, JobPaused
from workers.journal import Journal
from workers.leftovers import delete_leftovers
from workers.registry import JobFamilies
from workers.run import JobFailed, JobResources, JobResult, JobRun, artifact_folder
from workers.scratch import scratch_folder
from workers.transient import DATABASE_ERRORS, transient_reason

RACES = 20
"""How often another worker may take the job that this one was about to take, before this one waits for a message."""
LAST_WORD_PAUSE_S = 0.5

log = structlog.get_logger(__name__)


class BrokeDown(Exception):
    """The attempt ended for a reason that may be gone at the next one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RunnerRules:
    """`jobs_per_tenant` is None for as many as there are workers."""

    lease_s: float
    poll_s: float
    retry: RetryPolicy
    jobs_per_tenant: int | None
    scratch: Path


class JobRunner:
    """Takes a job under a fenced lease and brings it to an end, or gives it back.

    A message says that a job waits; which one of its queue runs next is told by the rows. A message may come twice, or
    for a job that has ended: then nothing happens. Never raises for what a job does; raises SQLAlchemyError when the
    database is away.
    """

    def __init__(
        self,
        *,
        jobs: JobRepository,
        queue: JobQueue,
        families: JobFamilies,
        resources: JobResources,
        announce: Callable[[Invalidation], None],
        told: Callable[[str], None],
        tracer: trace.Tracer,
        must_stop: Callable[[], bool],
        end_process: Callable[[], None],
        rules: RunnerRules,
    ) -> None:
        self._jobs, self._queue, self._families, self._resources = jobs, queue, families, resources
        self._announce, self._told, self._tracer = announce, told, tracer
        self._must_stop, self._end_process, self._rules = must_stop, end_process, rules

    def run_job(self, job_id: str) -> None:
        taken = self._take(job_id)
        if taken is None:
            log.info("no job taken: it has ended, waits, or another worker runs it", job=job_id)
            return
        job, fence = taken
        with (
            structlog.contextvars.bound_contextvars(job=job.id),
            self._tracer.start_as_current_span(
                f"run_job {job.family}",
                context=propagate.extract(job.trace_context),
                kind=trace.SpanKind.CONSUMER,
                attributes={
                    "flywheel.job.id": job.id,
                    "flywheel.job.family": job.family,
                    "flywheel.job.tenant": job.tenant,
                    "flywheel.job.attempt": fence,
                },
            ) as span,
        ):
            self._told(job.id)
            outcome = self._outcome(job, fence)
            self._told(job.id)
            span.set_attribute("flywheel.job.outcome", outcome)
            if outcome == "failed":
                span.set_status(trace.StatusCode.ERROR)
            log.info("job left", outcome=outcome, attempt=fence)
            self._make_room(job, fence, outcome)
        self._wake_next(job)

    def _take(self, job_id: str) -> tuple[Job, int] | None:
        limit = self._rules.jobs_per_tenant
        for _ in range(RACES):
            next_id = self._jobs.next_waiting(job_id, tenant_limit=limit)
            if next_id is None:
                return None
            taken = self._jobs.acquire(next_id, lease_s=self._rules.lease_s, tenant_limit=limit)
            if taken is not None:
                return taken
        return None

    def _outcome(self, job: Job, fence: int) -> str:
        # What gives the job back comes only after the heartbeat has ended: its next beat would take the lease back.
        try:
            with Heartbeat(
                self._jobs,
                job.id,
                fence,
                lease_s=self._rules.lease_s,
                interval_s=self._rules.poll_s,
                must_stop=self._must_stop,
                end_process=self._end_process,
            ) as heartbeat:
                return self._attempt(job, fence, heartbeat)
        except JobCancelled:
            return "cancelled"
        except LeaseLost:
            return self._how_it_ended(job, fence)
        except JobInterrupted:
            return self._give_back(job, fence, "The worker stops. The job waits for another one.")
        except JobPaused:
            return self._give_back(job, fence, "The job rests. It goes on from its last checkpoint.")
        except BrokeDown as failure:
            return self._retry(job, fence, failure.reason)

    def _attempt(self, job: Job, fence: int, heartbeat: Heartbeat) -> str:
        journal = Journal(self._jobs, job.id, fence, self._told)
        try:
            result = self._work(job, fence, heartbeat, journal)
        except (JobCancelled, JobInterrupted, JobPaused, LeaseLost):
            raise
        except JobFailed as failure:
            log.info("job failed", code=failure.code, reason=failure.message)
            error = JobError(code=failure.code, message=failure.message, param=failure.param)
        except Exception as failure:  # the boundary between a job and its worker
            if (reason := transient_reason(failure)) is not None:
                log.warning("job broke down", reason=type(failure).__name__)
                raise BrokeDown(reason) from failure
            log.exception("job failed unexpectedly")
            message = "The job failed because of an error on our side. The worker's log has the details."
            error = JobError(code="internal_error", message=message)
        else:
            _insist(lambda: self._succeed(job, fence, result, journal), heartbeat)
            return "succeeded"
        _insist(lambda: self._fail(job, fence, error, journal), heartbeat)
        return "failed"

    def _work(self, job: Job, fence: int, heartbeat: Heartbeat, journal: Journal) -> JobResult:
        if job.attempts >= self._rules.retry.max_attempts:
            message = f"The job was begun {job.attempts} times without getting further; its workers were killed."
            raise JobFailed("too_many_attempts", message)
        log.info("job started", family=job.family, attempt=fence)
        family = self._families.get(job.family)
        with scratch_folder(self._rules.scratch) as scratch:
            run = JobRun(job, fence, scratch, self._resources, journal, heartbeat)
            run.check()
            run.message(f"{STARTED}." if fence == 1 else f"{STARTED} again (attempt {fence}).")
            result = family(job.spec, run)
            run.check(may_save=True)
            if result.model is not None:
                self._check_model(result.model)
            return result

    def _check_model(self, model: ModelCard) -> None:
        """Nothing enters the registry that engines would refuse."""
        try:
            self._resources.artifacts.check_model(model.weights)
        except ArtifactRefused as refusal:
            raise JobFailed("model_refused", f"The model cannot be registered. {refusal}") from refusal

    def _succeed(self, job: Job, fence: int, result: JobResult, journal: Journal) -> None:
        journal.write()
        model = result.model
        self._jobs.finish(
            job.id,
            fence,
            "succeeded",
            message=result.message,
            result_model=None if model is None else model.name,
            trained_tokens=result.trained_tokens,
            artifact_bytes=self._resources.artifacts.size(artifact_folder(job.id, fence)),
            model=model,
        )
        if model is not None:
            self._announce(Invalidation(kind="model", id=model.name))

    def _fail(self, job: Job, fence: int, error: JobError, journal: Journal) -> None:
        journal.write()
        self._jobs.finish(job.id, fence, "failed", message=error.message, error=error)

    def _how_it_ended(self, job: Job, fence: int) -> str:
        """A commit whose answer was lost looks like a lost lease: then the model that was registered is this one's."""
        now = self._jobs.get(job.id)
        if now is None or now.status == "cancelled":
            return "cancelled"
        card = None if now.result_model is None else self._resources.models.get(now.result_model)
        own = artifact_folder(job.id, fence)
        return "succeeded" if card is not None and f"{card.weights}/".startswith(f"{own}/") else "lease_lost"

    def _give_back(self, job: Job, fence: int, message: str) -> str:
        try:
            self._jobs.add_event(job.id, fence, message, level="warn")
            status = self._jobs.release(job.id, fence)
        except LeaseLost:
            return "lease_lost"
        if status == "queued":
            self._enqueue(job)
        return "given_back"

    def _retry(self, job: Job, fence: int, reason: str) -> str:
        """The sweeper enqueues the job when its pause is over. If the database is away it does that with the lease."""
        try:
            status = self._jobs.retry(job.id, fence, self._rules.retry, reason=reason)
        except LeaseLost:
            return self._how_it_ended(job, fence)
        except DATABASE_ERRORS as error:
            log.warning("job not given back; a sweeper will", reason=type(error).__name__)
            return "broke_down"
        return "failed" if status == "failed" else "broke_down"

    def _make_room(self, job: Job, fence: int, outcome: str) -> None:
        try:
            if outcome != "succeeded":
                self._resources.artifacts.delete(artifact_folder(job.id, fence))
            delete_leftovers(self._resources)
        except Exception as error:
            if transient_reason(error) is None:
                raise
            log.warning("leftovers not deleted; the next job's worker will", reason=type(error).__name__)

    def _wake_next(self, job: Job) -> None:
        """The message of a job that was passed over, because its tenant had enough running, is gone."""
        if self._rules.jobs_per_tenant is None:
            return
        waiting = self._jobs.next_waiting(job.id, tenant_limit=self._rules.jobs_per_tenant)
        if waiting is not None:
            self._enqueue(job, waiting)

    def _enqueue(self, job: Job, job_id: str | None = None) -> None:
        try:
            self._queue.enqueue(job_id or job.id, queue=job.queue)
        except OperationalError as error:
            log.warning("job not enqueued; a sweeper will", reason=type(error).__name__)


def _insist(write: Callable[[], None], heartbeat: Heartbeat) -> None:
    """A job's end is worth waiting for a database or a store that is away, as long as the lease holds.

    Raises LeaseLost.
    """
    while True:
        try:
            write()
        except (*DATABASE_ERRORS, ArtifactsUnavailable) as error:
            log.warning("end of the job not written yet", reason=type(error).__name__)
            heartbeat.check(may_save=True)
            time.sleep(LAST_WORD_PAUSE_S)
        else:
            return
