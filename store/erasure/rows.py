"""A tenant's rows, and the artifacts that belong to them."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Delete, delete, or_, select
from sqlalchemy.orm import Session

from contracts.jobs import FINAL_STATUSES
from contracts.models import ModelCard
from contracts.releases import FINAL_STATES
from store.tables import (
    AliasRow,
    ApiKeyRow,
    CaptureRow,
    EvalItemRow,
    EvalRow,
    EvalRunRow,
    EvalScheduleRow,
    FeedbackRow,
    FeedbackTagRow,
    FileRow,
    JobCheckpointRow,
    JobEventRow,
    JobRow,
    ModelRow,
    ReleaseMoveRow,
    ReleaseRow,
    TenantRow,
    UploadPartRow,
    UploadRow,
)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a tenant has. `needed` are models that others use and that stay, with who uses them."""

    keys: tuple[str, ...]
    active_jobs: tuple[str, ...]
    models: tuple[ModelCard, ...]
    needed: dict[str, str]
    releases: tuple[str, ...]
    artifacts: tuple[str, ...]
    shared_releases: tuple[str, ...]


def find_holdings(session: Session, tenant: str) -> Holdings:
    cards = [
        ModelCard.model_validate(row, from_attributes=True)
        for row in session.scalars(select(ModelRow).where(ModelRow.tenant == tenant))
    ]
    needed = _needed_by_others(session, tenant, cards)
    kept_jobs = {card.job for card in cards if card.name in needed}
    jobs = session.execute(select(JobRow.id, JobRow.status).where(JobRow.tenant == tenant)).all()
    artifacts = list(session.scalars(select(FileRow.artifact).where(FileRow.tenant == tenant)))
    artifacts += [f"uploads/{name}" for name in session.scalars(select(UploadRow.id).where(UploadRow.tenant == tenant))]
    artifacts += [f"checkpoints/{job}" for job, _ in jobs]
    artifacts += [f"models/{job}" for job, _ in jobs if job not in kept_jobs]
    artifacts += [card.weights for card in cards if card.name not in needed]
    own = select(ReleaseRow.id).where(ReleaseRow.owner == tenant)
    shared = select(ReleaseRow.id).where(ReleaseRow.owner != tenant, ReleaseRow.tenant == tenant)
    return Holdings(
        keys=tuple(session.scalars(select(ApiKeyRow.id).where(ApiKeyRow.tenant == tenant))),
        active_jobs=tuple(job for job, status in jobs if status not in FINAL_STATUSES),
        models=tuple(card for card in cards if card.name not in needed),
        needed=needed,
        releases=tuple(session.scalars(own)),
        artifacts=tuple(artifacts),
        shared_releases=tuple(session.scalars(shared)),
    )


def delete_rows(session: Session, tenant: str, holdings: Holdings) -> dict[str, int]:
    """How many, by what they are. Those that refer to others go first."""
    uploads = select(UploadRow.id).where(UploadRow.tenant == tenant)
    jobs = select(JobRow.id).where(JobRow.tenant == tenant)
    feedback = select(FeedbackRow.id).where(FeedbackRow.tenant == tenant)
    releases = select(ReleaseRow.id).where(ReleaseRow.owner == tenant)
    runs = select(EvalRunRow.id).where(EvalRunRow.tenant == tenant)
    for statement in (
        delete(UploadPartRow).where(UploadPartRow.upload.in_(uploads)),
        delete(JobEventRow).where(JobEventRow.job.in_(jobs)),
        delete(JobCheckpointRow).where(JobCheckpointRow.job.in_(jobs)),
        delete(FeedbackTagRow).where(FeedbackTagRow.feedback.in_(feedback)),
        delete(ReleaseMoveRow).where(ReleaseMoveRow.release.in_(releases)),
        delete(EvalItemRow).where(EvalItemRow.run.in_(runs)),
        delete(EvalRunRow).where(EvalRunRow.tenant == tenant),
        delete(EvalScheduleRow).where(EvalScheduleRow.tenant == tenant),
    ):
        _count(session, statement)
    names = [card.name for card in holdings.models]
    return {
        "captured answers": _count(session, delete(CaptureRow).where(CaptureRow.tenant == tenant)),
        "feedback": _count(session, delete(FeedbackRow).where(FeedbackRow.tenant == tenant)),
        "evaluations": _count(session, delete(EvalRow).where(EvalRow.tenant == tenant)),
        "files": _count(session, delete(FileRow).where(FileRow.tenant == tenant)),
        "uploads": _count(session, delete(UploadRow).where(UploadRow.tenant == tenant)),
        "models": _count(session, delete(ModelRow).where(ModelRow.name.in_(names))),
        "jobs": _count(session, delete(JobRow).where(JobRow.tenant == tenant)),
        "releases": _count(session, delete(ReleaseRow).where(ReleaseRow.owner == tenant)),
        "aliases": _count(session, delete(AliasRow).where(AliasRow.owner == tenant)),
        "keys": _count(session, delete(ApiKeyRow).where(ApiKeyRow.tenant == tenant)),
        "limits": _count(session, delete(TenantRow).where(TenantRow.id == tenant)),
    }


def _needed_by_others(session: Session, tenant: str, cards: list[ModelCard]) -> dict[str, str]:
    names = [card.name for card in cards]
    needed: dict[str, str] = {}
    for alias, model in session.execute(
        select(AliasRow.name, AliasRow.model).where(AliasRow.owner != tenant, AliasRow.model.in_(names))
    ):
        needed[model] = f"the alias `{alias}` of others stands for it"
    named: ColumnElement[bool] = or_(ReleaseRow.stable.in_(names), ReleaseRow.candidate.in_(names))
    under_way = select(ReleaseRow).where(ReleaseRow.owner != tenant, ReleaseRow.state.not_in(FINAL_STATES), named)
    for release in session.scalars(under_way):
        for model in {release.stable, release.candidate} & set(names):
            needed.setdefault(model, f"the release `{release.id}` of others is under way with it")
    children = select(ModelRow.name, ModelRow.parent).where(
        ModelRow.parent.in_(names), or_(ModelRow.tenant != tenant, ModelRow.tenant.is_(None))
    )
    for child, parent in session.execute(children):
        needed.setdefault(str(parent), f"`{child}` of others was made from it")
    parents = {card.name: card.parent for card in cards}
    for name in list(needed):
        parent = parents[name]
        while parent in parents:
            needed.setdefault(parent, f"`{name}` was made from it")
            parent = parents[parent]
    return needed


def _count(session: Session, statement: Delete) -> int:
    return int(session.execute(statement).rowcount)  # type: ignore[attr-defined]
