"""The model registry: a card per base model, and per adapter or whole model that a job made."""

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from contracts.models import ModelCard
from store.database import Database
from store.tables import ModelRow

MOST_CHILDREN_NAMED = 3


class ModelHasChildren(Exception):
    """Other models were made from this one, and are served with its weights or started like it."""

    def __init__(self, children: Sequence[str]) -> None:
        super().__init__(", ".join(children))
        self.children = children


class ModelRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, card: ModelCard) -> None:
        """Registers a model, or replaces the card of the same name; the time it was first made stays."""
        try:
            self._put(card)
        except IntegrityError:  # another process registered the same name in this moment
            self._put(card)

    def _put(self, card: ModelCard) -> None:
        with self._database.session() as session:
            put_model(session, card)

    def get(self, name: str) -> ModelCard | None:
        with self._database.session() as session:
            row = session.get(ModelRow, name)
            return None if row is None else _to_card(row)

    def all(self) -> list[ModelCard]:
        with self._database.session() as session:
            return [_to_card(row) for row in session.scalars(select(ModelRow).order_by(ModelRow.created_at))]

    def digests(self, among: Collection[str]) -> frozenset[str]:
        """Those of the digests that a model has."""
        with self._database.session() as session:
            return frozenset(session.scalars(select(ModelRow.digest).where(ModelRow.digest.in_(among))))

    def adapters_of(self, base: str, *, named: Collection[str], newest: int) -> list[ModelCard]:
        """Those of a base model's adapters that are `named`, as far as they exist, and the `newest` of the others."""
        query = select(ModelRow).where(ModelRow.parent == base, ModelRow.kind == "adapter")
        with self._database.session() as session:
            known = session.scalars(query.where(ModelRow.name.in_(named))).all()
            new = session.scalars(query.order_by(ModelRow.created_at.desc(), ModelRow.name).limit(newest)).all()
            return [_to_card(row) for row in {row.name: row for row in (*known, *new)}.values()]

    def delete(self, name: str, *, tenant: str) -> ModelCard | None:
        """Deletes a model of this tenant; None if it has no such model. Raises ModelHasChildren."""
        with self._database.session() as session:
            row = session.get(ModelRow, name)
            if row is None or row.tenant != tenant:
                return None
            made_from_it = select(ModelRow.name).where(ModelRow.parent == name).order_by(ModelRow.name)
            if children := session.scalars(made_from_it.limit(MOST_CHILDREN_NAMED)).all():
                raise ModelHasChildren(children)
            session.delete(row)
            return _to_card(row)


def put_model(session: Session, card: ModelCard) -> None:
    """`ModelRepository.put` as part of a transaction that does more."""
    values = card.model_dump()
    if (row := session.get(ModelRow, card.name)) is not None:
        values["created_at"] = row.created_at
    session.merge(ModelRow(**values))


def _to_card(row: ModelRow) -> ModelCard:
    return ModelCard.model_validate(row, from_attributes=True)
