"""The evaluation of a candidate, which is a job of the family `evaluate.release`."""

import structlog
from kombu.exceptions import OperationalError

from contracts.jobs import FINAL_STATUSES
from contracts.releases import EVALUATION_FAMILY, EVALUATION_FIELD, Evaluation, EvaluationSpec, Release
from releases.machine import Broken, Outcome, Pending
from store.job_queue import JobQueue
from store.jobs import JobRepository
from store.releases import ReleaseRepository

LAST_EVENTS = 20
log = structlog.get_logger(__name__)


class Evaluations:
    """Starts evaluations and reads what they found. Synchronous; raises SQLAlchemyError."""

    def __init__(self, releases: ReleaseRepository, jobs: JobRepository, queue: JobQueue) -> None:
        self._releases = releases
        self._jobs = jobs
        self._queue = queue

    def begin(self, release: Release) -> None:
        """Makes the job. Of controllers that do so at once one wins, and the others take theirs back."""
        assert release.evaluation_file is not None
        assert release.evaluation_digest is not None
        spec = EvaluationSpec(
            stable=release.stable,
            candidate=release.candidate,
            file=release.evaluation_file,
            file_digest=release.evaluation_digest,
            confidence=release.policy.confidence,
        )
        job = self._jobs.create(
            family=EVALUATION_FAMILY, tenant=release.tenant, spec=spec.model_dump(mode="json"), trace_context={}
        )
        if not self._releases.note_evaluation(release, job.id):
            self._jobs.cancel(job.id, tenant=release.tenant)
            return
        try:
            self._queue.enqueue(job.id)
        except OperationalError:
            log.warning("evaluation not queued; a sweeper will", job=job.id)

    def outcome(self, release: Release) -> Outcome:
        if release.evaluation_job is None:
            return Pending(begun=False)
        job = self._jobs.get(release.evaluation_job)
        if job is None or job.status not in FINAL_STATUSES:
            return Pending(begun=True)
        if job.status != "succeeded":
            return Broken(f"The evaluation {job.status}{'' if job.error is None else f': {job.error.message}'}")
        for event in self._jobs.events(job.id, limit=LAST_EVENTS):
            if EVALUATION_FIELD in event.data:
                return Evaluation.model_validate(event.data[EVALUATION_FIELD])
        return Broken("The evaluation told no result.")

    def cancel(self, release: Release) -> None:
        """Ends a job whose result nobody waits for any more."""
        if release.evaluation_job is not None:
            self._jobs.cancel(release.evaluation_job, tenant=release.tenant)
