"""The quota of a tenant's artifacts, as the gateway and workers apply it."""

from contracts.job_needs import JobNeeds, in_words


def over_quota(needs: JobNeeds | None, *, used_bytes: int, quota_bytes: int | None) -> str | None:
    """Why a job has no room in its tenant's quota; None if it has. `needs` is None where they are not known."""
    if quota_bytes is None:
        return None
    left = max(0, quota_bytes - used_bytes)
    wanted = 1 if needs is None else needs.artifact_bytes
    if wanted <= left:
        return None
    needed = "" if needs is None else f"The job needs about {in_words(wanted)} of stored files. "
    return (
        f"{needed}Of the quota of {in_words(quota_bytes)} for your jobs' models and checkpoints "
        f"{in_words(left)} are left. Delete models that you no longer need, or train a smaller part of the model."
    )
