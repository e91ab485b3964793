"""Refuses a job that its tenant has no room for, when it is created and not after it has waited."""

from pathlib import Path

from contracts.errors import InsufficientQuota
from contracts.fine_tuning import FineTuningSpec
from contracts.job_needs import estimate_needs
from contracts.job_quota import over_quota
from contracts.keys import ApiKey
from contracts.models import ModelCard
from store.job_usage import JobUsage


class JobQuota:
    """Counts models and checkpoints. Where the base's weights are on this machine, their size tells what a job needs;
    elsewhere a job is refused here only if nothing is left, and its worker looks again.
    """

    def __init__(self, usage: JobUsage, quota_bytes: int | None) -> None:
        self._usage, self._quota_bytes = usage, quota_bytes

    def check(self, spec: FineTuningSpec, base: ModelCard, key: ApiKey) -> None:
        """Two small queries if there is a quota. Raises InsufficientQuota."""
        if self._quota_bytes is None:
            return
        stored = sum(path.stat().st_size for path in Path(base.weights).glob("*.safetensors"))
        needs = estimate_needs(spec, weights_bytes=stored) if stored else None
        used = self._usage.artifact_bytes(key.tenant)
        if (reason := over_quota(needs, used_bytes=used, quota_bytes=self._quota_bytes)) is not None:
            raise InsufficientQuota(reason)
