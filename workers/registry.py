"""Job families: a family is a file with one decorated function, and one line in workers/families.py."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from workers.run import JobFailed, JobResult, JobRun


@dataclass(frozen=True, slots=True)
class JobFamily:
    """How to run the jobs of one family. `spec` is the type of what such a job is asked to do."""

    name: str
    spec: type[BaseModel]
    function: Callable[[Any, JobRun], JobResult]

    def __call__(self, spec: dict[str, Any], run: JobRun) -> JobResult:
        """Raises JobFailed, and what `run.check` raises."""
        try:
            parsed = self.spec.model_validate(spec)
        except ValidationError as error:
            fields = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors()}))
            raise JobFailed("invalid_job", f"The job's specification is not valid: {fields}.") from error
        return self.function(parsed, run)


def job_family(name: str) -> Callable[[Callable[[Any, JobRun], JobResult]], JobFamily]:
    """Makes a family of `function(spec: SomeSpec, run: JobRun) -> JobResult`; the spec's type is read off it."""

    def make(function: Callable[[Any, JobRun], JobResult]) -> JobFamily:
        first = next(iter(inspect.signature(function).parameters))
        return JobFamily(name, get_type_hints(function)[first], function)

    return make


class JobFamilies:
    def __init__(self, families: Iterable[JobFamily]) -> None:
        self._families: dict[str, JobFamily] = {}
        for family in families:
            if family.name in self._families:
                raise ValueError(f"Two job families have the name {family.name}.")
            self._families[family.name] = family

    def get(self, name: str) -> JobFamily:
        """Raises JobFailed: this worker may be older than the gateway that made the job."""
        family = self._families.get(name)
        if family is None:
            raise JobFailed("unknown_job_family", f"No worker knows jobs of the family `{name}`.")
        return family
