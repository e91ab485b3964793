"""The job family of studies. What it needs is imported when it runs."""

from contracts.studies import STUDY_FAMILY, StudySpec
from workers.registry import job_family
from workers.run import JobResult, JobRun


@job_family(STUDY_FAMILY)
def study(spec: StudySpec, run: JobRun) -> JobResult:
    """Makes variants of a model, measures each by really serving it, and tells which are worth having."""
    from workers.compress.study import run_study

    return run_study(spec, run)
