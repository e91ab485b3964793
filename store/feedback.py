"""Feedback on answers, in SQL. Releases judge models by it."""

from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from contracts.captures import Feedback
from store.database import Database
from store.tables import FeedbackRow, FeedbackTagRow


class Ratings(NamedTuple):
    up: int
    down: int


class FeedbackRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, feedback: Feedback) -> Feedback:
        """Keeps feedback in place of what the tenant said of the same answer before, whose id stays."""
        try:
            return self._put(feedback)
        except IntegrityError:  # another request rated the same answer in this moment
            return self._put(feedback)

    def ratings_of(self, model: str, since: int) -> Ratings:
        """How often answers of a model were rated up and down since a time in Unix seconds, over all tenants."""
        query = (
            select(FeedbackRow.rating, func.count())
            .where(FeedbackRow.model == model, FeedbackRow.created_at >= since)
            .group_by(FeedbackRow.rating)
        )
        with self._database.session() as session:
            counted = session.execute(query).all()
        return Ratings(
            up=sum(count for rating, count in counted if rating == "up"),
            down=sum(count for rating, count in counted if rating == "down"),
        )

    def _put(self, feedback: Feedback) -> Feedback:
        with self._database.session() as session:
            known = session.scalar(
                select(FeedbackRow.id).where(
                    FeedbackRow.tenant == feedback.tenant, FeedbackRow.response_id == feedback.response_id
                )
            )
            kept = feedback.model_copy(update={"id": known or feedback.id})
            session.merge(FeedbackRow(**kept.model_dump(exclude={"tags"})))
            session.flush()
            _set_tags(session, kept)
            return kept


def _set_tags(session: Session, feedback: Feedback) -> None:
    session.execute(delete(FeedbackTagRow).where(FeedbackTagRow.feedback == feedback.id))
    session.add_all(FeedbackTagRow(feedback=feedback.id, tag=tag) for tag in sorted(set(feedback.tags)))


def to_feedback(row: FeedbackRow, tags: list[str]) -> Feedback:
    fields = {name: getattr(row, name) for name in Feedback.model_fields if name != "tags"}
    return Feedback(**fields, tags=tags)
