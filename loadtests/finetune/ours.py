"""`python -m loadtests.finetune.ours WEIGHTS SOCKET JOB`, in the worker's environment: a job of ours, that plays.

The runner and all that it uses are the real ones; only Celery is left out.
"""

import sys
from pathlib import Path

from contracts.settings import Settings
from workers.finetune.launch import choose_environment


def main(weights: str, address: str, job: str) -> None:
    choose_environment(Path(weights))  # before torch is imported, as in a worker
    from loadtests.finetune.player import play
    from tests.workers.finetune.process import run_jobs

    play("ours", address)
    run_jobs(Settings(), [job])


if __name__ == "__main__":
    main(*sys.argv[1:])
