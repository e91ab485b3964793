"""The job families that a worker knows. One line registers one.

Importing a family must cost nothing: what is heavy (torch) is imported when the family runs, after the fork.
"""

from workers.compress.families import study
from workers.evaluate.families import EVALUATION
from workers.finetune.families import FINE_TUNING
from workers.registry import JobFamilies


def all_families() -> JobFamilies:
    return JobFamilies([*FINE_TUNING, *EVALUATION, study])
