"""What a study has reached: kept in a checkpoint after each variant, so that none is made or measured twice."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from contracts.studies import VariantResult
from workers.run import JobRun, checkpoints_folder

STATE_FILE, SAMPLES_FILE = "study.json", "samples.jsonl"


class Finished(BaseModel):
    """A variant that is done with, and where its weights are kept if it was measured."""

    model_config = ConfigDict(frozen=True)

    result: VariantResult
    artifact: str | None = None
    digest: str | None = None


class _Kept(BaseModel):
    finished: list[Finished] = []
    baseline_scores: list[float] | None = None
    seconds: float = 0.0


class StudyState:
    """Of one job, over all its attempts. `folder` is what a checkpoint holds; `weights` are of this attempt."""

    def __init__(self, run: JobRun) -> None:
        self._run = run
        self._folder, self._weights = run.scratch / "state", run.scratch / "variants"
        self._kept = _Kept()
        if run.latest_checkpoint(self._folder) is not None:
            self._kept = _Kept.model_validate_json((self._folder / STATE_FILE).read_bytes())
        self._folder.mkdir(exist_ok=True)
        self._weights.mkdir()

    @property
    def samples(self) -> Path:
        return self._folder / SAMPLES_FILE

    @property
    def results(self) -> list[VariantResult]:
        return [finished.result for finished in self._kept.finished]

    @property
    def earlier_s(self) -> float:
        """What earlier attempts took, as far as they came to something."""
        return self._kept.seconds

    @property
    def baseline_scores(self) -> list[float] | None:
        return self._kept.baseline_scores

    def finished(self, name: str) -> Finished | None:
        return next((one for one in self._kept.finished if one.result.name == name), None)

    def folder_for(self, name: str) -> Path:
        """Where this attempt makes a variant's weights."""
        return self._weights / name

    def weights_of(self, name: str) -> Path | None:
        """On this machine, brought from the store if an earlier attempt made them; None where there are none."""
        folder, finished = self.folder_for(name), self.finished(name)
        if finished is None or finished.artifact is None or finished.digest is None:
            return None
        if not folder.is_dir():
            self._run.resources.artifacts.download_folder(finished.artifact, folder, digest=finished.digest)
        return folder

    def finish(
        self, result: VariantResult, weights: Path | None, *, seconds: float, scores: list[float] | None = None
    ) -> None:
        """Stores the weights, then the state that names them. Raises LeaseLost, and a store's errors."""
        artifact = digest = None
        if weights is not None:
            artifact = f"{checkpoints_folder(self._run.job.id)}/{self._run.fence}/weights/{result.name}"
            digest = self._run.resources.artifacts.upload_folder(weights, artifact)
        self._kept.finished.append(Finished(result=result, artifact=artifact, digest=digest))
        self._kept.seconds = seconds
        if scores is not None:
            self._kept.baseline_scores = scores
        (self._folder / STATE_FILE).write_text(self._kept.model_dump_json())
        step = len(self._kept.finished)
        self._run.save_checkpoint(self._folder, step=step, metrics={"variants": float(step)})
