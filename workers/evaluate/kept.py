"""Results of a run that stay when its job has ended."""

from pathlib import Path

from contracts.harness import KEPT, RESULTS
from workers.run import JobRun


def keep_results(folder: Path, run: JobRun) -> None:
    """`folder` has a JSON file for each task. Where they are kept is told by an event."""
    kept = f"{run.artifact_folder}/results"
    run.resources.artifacts.upload_folder(folder, kept)
    run.metrics(f"{KEPT}.", {RESULTS: kept})
