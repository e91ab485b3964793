"""Releases in SQL: the row is the truth about a release, and each of its moves is a row that stays.

Every write names the version of the release that it was decided on, and changes nothing if that is not the newest any
more. So any number of controllers and people may act on a release at once, and each move is made once.
"""

import time
from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from contracts.files import StoredFile
from contracts.identifiers import new_id
from contracts.releases import FINAL_STATES, FIRST_LOOK_AT, Alias, Evidence, Move, Policy, RecordedMove, Release
from store.database import Database
from store.paging import newest_first
from store.tables import AliasRow, ReleaseMoveRow, ReleaseRow

SHARED = ""
"""The owner of aliases that every tenant may use."""


class AliasTaken(Exception):
    """The alias has another release under way, stands for another model now, or is gone."""


class ReleaseRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self,
        alias: Alias,
        *,
        candidate: str,
        policy: Policy,
        tenant: str,
        actor: str,
        evaluation_file: StoredFile | None = None,
    ) -> Release:
        """Begins a release of an alias as it was read. Raises AliasTaken."""
        now = time.time()
        row = ReleaseRow(
            id=new_id("release"),
            alias=alias.name,
            owner=alias.tenant or SHARED,
            tenant=tenant,
            stable=alias.model,
            candidate=candidate,
            policy=policy.model_dump(mode="json"),
            evaluation_file=None if evaluation_file is None else evaluation_file.id,
            evaluation_digest=None if evaluation_file is None else evaluation_file.digest,
            state="built",
            stage=0,
            version=0,
            looks=0,
            next_look_at=FIRST_LOOK_AT,
            created_at=int(now),
            entered_at=now,
        )
        with self._database.session() as session:
            _change_alias(session, row, model=alias.model, release=None, to={"release": row.id})
            session.add(row)
            session.flush()
            reason = f"`{candidate}` is to take the place of `{alias.model}`."
            _record(session, row, None, Move(state="built", reason=reason), actor=actor, now=now)
            return to_release(row)

    def get(self, release_id: str) -> Release | None:
        with self._database.session() as session:
            row = session.get(ReleaseRow, release_id)
            return None if row is None else to_release(row)

    def under_way(self) -> list[Release]:
        query = select(ReleaseRow).where(ReleaseRow.state.not_in(FINAL_STATES)).order_by(ReleaseRow.created_at)
        with self._database.session() as session:
            return [to_release(row) for row in session.scalars(query)]

    def page(
        self, *, tenant: str, alias: str | None = None, after: str | None = None, limit: int = 20
    ) -> list[Release]:
        """Of the tenant's aliases and of the shared ones, newest first; those older than the release `after`."""
        query = select(ReleaseRow).where(ReleaseRow.owner.in_((tenant, SHARED)))
        if alias is not None:
            query = query.where(ReleaseRow.alias == alias)
        with self._database.session() as session:
            query = newest_first(session, query, ReleaseRow, after).limit(limit)
            return [to_release(row) for row in session.scalars(query)]

    def moves(self, release_id: str) -> list[RecordedMove]:
        """From the first to the last."""
        query = select(ReleaseMoveRow).where(ReleaseMoveRow.release == release_id).order_by(ReleaseMoveRow.version)
        with self._database.session() as session:
            return [RecordedMove.model_validate(row, from_attributes=True) for row in session.scalars(query)]

    def move(self, release: Release, move: Move, *, actor: str) -> Release | None:
        """Makes a move and gives the alias its new meaning, both or neither.

        None if the release is not as it was read any more. Raises AliasTaken where a promoted release is to be rolled
        back and the alias has gone on to something else.
        """
        now = time.time()
        with self._database.session() as session:
            changed = _change(
                session,
                release,
                state=move.state,
                stage=move.stage,
                looks=0,
                next_look_at=FIRST_LOOK_AT,
                evidence=None,
                entered_at=now,
                finished_at=int(now) if move.state in FINAL_STATES else None,
            )
            if not changed:
                return None
            row = session.get_one(ReleaseRow, release.id)
            if release.state == "promoted":
                _change_alias(session, row, model=row.candidate, release=None, to={"model": row.stable})
            elif move.state in FINAL_STATES:
                model = row.candidate if move.state == "promoted" else row.stable
                _change_alias(session, row, model=row.stable, release=row.id, to={"model": model, "release": None})
            _record(session, row, release, move, actor=actor, now=now)
            return to_release(row)

    def note_look(self, release: Release, evidence: Evidence, *, next_look_at: int) -> bool:
        """Writes down that a stage's figures were judged, without a move. False as `move` returns None."""
        with self._database.session() as session:
            return _change(
                session,
                release,
                looks=release.looks + 1,
                next_look_at=next_look_at,
                evidence=evidence.model_dump(mode="json"),
            )

    def note_evaluation(self, release: Release, job_id: str) -> bool:
        """Writes down which job evaluates the candidate. False as `move` returns None."""
        with self._database.session() as session:
            return _change(session, release, evaluation_job=job_id)


def to_release(row: ReleaseRow) -> Release:
    values = {name: getattr(row, name) for name in Release.model_fields}
    return Release.model_validate(values | {"owner": row.owner or None})


def _change(session: Session, release: Release, **values: Any) -> bool:
    as_read = (ReleaseRow.id == release.id) & (ReleaseRow.version == release.version)
    return _touched(session.execute(update(ReleaseRow).where(as_read).values(version=release.version + 1, **values)))


def _change_alias(session: Session, row: ReleaseRow, *, model: str, release: str | None, to: dict[str, Any]) -> None:
    """Raises AliasTaken, which undoes the whole transaction."""
    as_expected = (
        (AliasRow.owner == row.owner)
        & (AliasRow.name == row.alias)
        & (AliasRow.model == model)
        & (AliasRow.release.is_(None) if release is None else AliasRow.release == release)
    )
    if not _touched(session.execute(update(AliasRow).where(as_expected).values(**to))):
        raise AliasTaken(row.alias)


def _touched(result: Any) -> bool:
    assert isinstance(result, CursorResult)
    return result.rowcount > 0


def _record(session: Session, row: ReleaseRow, before: Release | None, move: Move, *, actor: str, now: float) -> None:
    session.add(
        ReleaseMoveRow(
            release=row.id,
            version=row.version,
            from_state=None if before is None else before.state,
            from_stage=0 if before is None else before.stage,
            state=move.state,
            stage=move.stage,
            actor=actor,
            reason=move.reason,
            evidence=None if move.evidence is None else move.evidence.model_dump(mode="json"),
            created_at=int(now),
        )
    )
