"""Refuses a training that this machine, or its tenant's quota, has no room for, before it begins."""

import shutil
from pathlib import Path

import psutil

from contracts.fine_tuning import FineTuningSpec
from contracts.job_needs import JobNeeds, estimate_needs, in_words
from contracts.job_quota import over_quota
from workers.run import JobFailed, JobRun

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


def require_room(spec: FineTuningSpec, weights: Path, run: JobRun) -> None:
    """Estimates what the training needs from the size of its base. Weights that a hub has yet to send are not counted.

    Raises JobFailed.
    """
    if not weights.is_dir():
        return
    needs = estimate_needs(spec, weights_bytes=weights_bytes(weights))
    room = run.resources.room
    reason = over_quota(needs, used_bytes=room.usage.artifact_bytes(run.job.tenant), quota_bytes=room.quota_bytes)
    if reason is not None:
        raise JobFailed("quota_exceeded", reason)
    _require_scratch(needs, run.scratch, room.scratch_bytes)
    _require_memory(needs)


def weights_bytes(weights: Path) -> int:
    """As if stored in 16 bits a parameter, as bases are."""
    return sum(path.stat().st_size for path in weights.glob("*.safetensors"))


def available_memory_bytes() -> int:
    """Of this machine, or of this container if it may use less."""
    available = int(psutil.virtual_memory().available)
    try:
        limit, used = int(CGROUP_LIMIT.read_text()), int(CGROUP_USED.read_text())
    except (OSError, ValueError):  # no such group, or its limit is `max`
        return available
    return min(available, max(0, limit - used))


def _require_scratch(needs: JobNeeds, scratch: Path, bound: int | None) -> None:
    free = shutil.disk_usage(scratch).free
    left = free if bound is None else min(free, bound)
    if needs.scratch_bytes > left:
        raise JobFailed(
            "insufficient_disk",
            f"The job needs about {in_words(needs.scratch_bytes)} of disk on its worker, which has {in_words(left)}. "
            "Ask for an adapter, or for a worker with more room.",
        )


def _require_memory(needs: JobNeeds) -> None:
    available = available_memory_bytes()
    if needs.memory_bytes > available:
        raise JobFailed(
            "insufficient_memory",
            f"The job needs at least {in_words(needs.memory_bytes)} of memory on its worker, which has "
            f"{in_words(available)} free. Ask for an adapter, or for a worker with more memory.",
        )
