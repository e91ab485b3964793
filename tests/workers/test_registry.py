import subprocess
import sys

import pytest

from tests.processes import ROOT
from tests.workers.conftest import CountSpec
from workers.families import all_families
from workers.registry import JobFamilies, job_family
from workers.run import JobFailed, JobResult, JobRun


@job_family("test.count")
def count(spec: CountSpec, run: JobRun) -> JobResult:
    return JobResult(f"counted to {spec.to}")


def test_a_decorated_function_is_a_family_that_knows_its_spec() -> None:
    assert (count.name, count.spec) == ("test.count", CountSpec)
    assert count({"to": 3}, None).message == "counted to 3"  # type: ignore[arg-type]


def test_a_spec_that_does_not_fit_is_a_failure_that_names_the_field() -> None:
    with pytest.raises(JobFailed, match="to") as failure:
        count({"to": "many"}, None)  # type: ignore[arg-type]
    assert failure.value.code == "invalid_job"


def test_a_family_that_nobody_registered_is_a_failure_of_the_job() -> None:
    with pytest.raises(JobFailed) as failure:
        JobFamilies([count]).get("test.unknown")
    assert failure.value.code == "unknown_job_family"


def test_two_families_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match=r"test\.count"):
        JobFamilies([count, count])


def test_every_family_can_be_named_without_the_libraries_that_it_runs_on() -> None:
    assert all_families().get("finetune.supervised").name == "finetune.supervised"


def test_knowing_every_family_imports_nothing_heavy() -> None:
    """The worker's parent forks for each job, and should be small and have no threads of a library."""
    heavy = ("torch", "numpy", "scipy", "sklearn", "openai", "matplotlib", "nltk")
    code = (
        "import sys; from workers.families import all_families; all_families(); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
