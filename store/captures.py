"""Captured answers in SQL, and the feedback that belongs to them."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, select
from sqlalchemy.orm import Session

from contracts.captures import Capture, Feedback, Rating
from store.database import Database
from store.feedback import to_feedback
from store.paging import newest_first
from store.tables import CaptureRow, FeedbackRow, FeedbackTagRow

PURGE_BATCH = 1000


def hash_user(user: str, tenant: str, secret: str) -> str:
    """What a capture holds of the request's `user`: enough to find it by the name, and not the name."""
    return hmac.new(secret.encode(), f"{tenant}\0{user}".encode(), hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class JudgedCapture:
    capture: Capture
    feedback: Feedback | None


@dataclass(frozen=True, slots=True)
class CaptureFilter:
    """What is left None does not matter."""

    model: str | None = None
    tag: str | None = None
    rating: Rating | None = None
    since: int | None = None
    corrected: bool | None = None
    user_hash: str | None = None
    response_id: str | None = None

    def conditions(self) -> Iterable[ColumnElement[bool]]:
        if self.model is not None:
            yield CaptureRow.model == self.model
        if self.tag is not None:
            yield FeedbackRow.id.in_(select(FeedbackTagRow.feedback).where(FeedbackTagRow.tag == self.tag))
        if self.rating is not None:
            yield FeedbackRow.rating == self.rating
        if self.since is not None:
            yield CaptureRow.created_at >= self.since
        if self.corrected is not None:
            yield FeedbackRow.correction.is_not(None) if self.corrected else FeedbackRow.correction.is_(None)
        if self.user_hash is not None:
            yield CaptureRow.user_hash == self.user_hash
        if self.response_id is not None:
            yield CaptureRow.response_id == self.response_id


ANY = CaptureFilter()


class CaptureRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, captures: Iterable[Capture]) -> None:
        with self._database.session() as session:
            session.add_all(CaptureRow(**capture.model_dump()) for capture in captures)

    def page(
        self, *, tenant: str, wanted: CaptureFilter = ANY, after: str | None = None, limit: int = 100
    ) -> list[JudgedCapture]:
        """Newest first, at most `limit`, those older than the capture `after`, each with its feedback."""
        query = (
            select(CaptureRow, FeedbackRow)
            .outerjoin(
                FeedbackRow,
                and_(FeedbackRow.tenant == CaptureRow.tenant, FeedbackRow.response_id == CaptureRow.response_id),
            )
            .where(CaptureRow.tenant == tenant, *wanted.conditions())
        )
        with self._database.session() as session:
            query = newest_first(session, query, CaptureRow, after).limit(limit)
            found = session.execute(query).all()
            tags = _tags(session, [feedback.id for _, feedback in found if feedback is not None])
            return [
                JudgedCapture(
                    Capture.model_validate(capture, from_attributes=True),
                    None if feedback is None else to_feedback(feedback, tags.get(feedback.id, [])),
                )
                for capture, feedback in found
            ]

    def model_of(self, response_id: str, *, tenant: str) -> str | None:
        """The model that gave a captured answer."""
        query = select(CaptureRow.model).where(CaptureRow.tenant == tenant, CaptureRow.response_id == response_id)
        with self._database.session() as session:
            return session.scalar(query.limit(1))

    def erase(self, *, tenant: str, user_hash: str | None = None, response_id: str | None = None) -> tuple[int, int]:
        """Deletes captures and the feedback on them: of a user, of an answer, or all. How many captures and feedback.

        Feedback on an answer that was not captured knows no user, and goes only with the answer's id or all.
        """
        captures = [CaptureRow.tenant == tenant]
        feedback = [FeedbackRow.tenant == tenant]
        if response_id is not None:
            captures.append(CaptureRow.response_id == response_id)
            feedback.append(FeedbackRow.response_id == response_id)
        if user_hash is not None:
            captures.append(CaptureRow.user_hash == user_hash)
            feedback.append(FeedbackRow.response_id.in_(select(CaptureRow.response_id).where(*captures)))
        with self._database.session() as session:
            _delete_tags(session, select(FeedbackRow.id).where(*feedback))
            judged = session.execute(delete(FeedbackRow).where(*feedback))
            erased = session.execute(delete(CaptureRow).where(*captures))
            return _count(erased), _count(judged)

    def purge(self, before: int) -> int:
        """Deletes captures and feedback that are older, in short transactions. How many captures."""
        purged = 0
        while True:
            with self._database.session() as session:
                old = select(CaptureRow.id).where(CaptureRow.created_at < before).limit(PURGE_BATCH).subquery()
                count = _count(session.execute(delete(CaptureRow).where(CaptureRow.id.in_(select(old.c.id)))))
                stale = select(FeedbackRow.id).where(FeedbackRow.created_at < before)
                _delete_tags(session, stale)
                session.execute(delete(FeedbackRow).where(FeedbackRow.created_at < before))
            purged += count
            if count < PURGE_BATCH:
                return purged


def _tags(session: Session, feedback_ids: list[str]) -> dict[str, list[str]]:
    tags: dict[str, list[str]] = {}
    query = select(FeedbackTagRow).where(FeedbackTagRow.feedback.in_(feedback_ids)).order_by(FeedbackTagRow.tag)
    for row in session.scalars(query):
        tags.setdefault(row.feedback, []).append(row.tag)
    return tags


def _delete_tags(session: Session, feedback_ids: object) -> None:
    session.execute(delete(FeedbackTagRow).where(FeedbackTagRow.feedback.in_(feedback_ids)))  # type: ignore[arg-type]


def _count(result: object) -> int:
    return int(result.rowcount)  # type: ignore[attr-defined]
