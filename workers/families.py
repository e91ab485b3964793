"""The job families that a worker knows. One line registers one.

Importing a family must cost nothing: what is heavy (torch) is imported when the family runs, after the fork.
"""

from workers.evaluate.encoder import evaluate_encoder
from workers.evaluate.harness import evaluate_harness
from workers.evaluate.release import evaluate_release
from workers.evaluate.run import evaluate_run
from workers.finetune.families import FINE_TUNING
from workers.registry import JobFamilies


def all_families() -> JobFamilies:
    return JobFamilies([*FINE_TUNING, evaluate_release, evaluate_run, evaluate_harness, evaluate_encoder])
