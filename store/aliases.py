"""Aliases in SQL. What an alias stands for changes with a release only (store/releases.py)."""

import time
from dataclasses import dataclass

from sqlalchemy import delete, or_, select
from sqlalchemy.exc import IntegrityError

from contracts.releases import Alias, Release
from store.database import Database
from store.releases import SHARED, to_release
from store.tables import AliasRow, ReleaseRow


class AliasExists(Exception):
    """The owner has an alias of this name already."""


class AliasBusy(Exception):
    """A release of the alias is under way."""


@dataclass(frozen=True, slots=True)
class AliasRoute:
    """An alias and, while one is under way, its release."""

    alias: Alias
    release: Release | None


class AliasRepository:
    """`owner` is a tenant, or None for the aliases that every tenant may use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, *, owner: str | None, model: str) -> Alias:
        """Raises AliasExists."""
        row = AliasRow(owner=owner or SHARED, name=name, model=model, created_at=int(time.time()))
        try:
            with self._database.session() as session:
                session.add(row)
        except IntegrityError:
            raise AliasExists(name) from None
        return to_alias(row)

    def get(self, name: str, *, owner: str | None) -> Alias | None:
        with self._database.session() as session:
            row = session.get(AliasRow, (owner or SHARED, name))
            return None if row is None else to_alias(row)

    def visible_to(self, tenant: str) -> list[Alias]:
        query = select(AliasRow).where(AliasRow.owner.in_((tenant, SHARED))).order_by(AliasRow.name, AliasRow.owner)
        with self._database.session() as session:
            return [to_alias(row) for row in session.scalars(query)]

    def routes(self) -> list[AliasRoute]:
        """Every alias of every tenant. One query."""
        query = select(AliasRow, ReleaseRow).join(ReleaseRow, ReleaseRow.id == AliasRow.release, isouter=True)
        with self._database.session() as session:
            return [
                AliasRoute(to_alias(alias), None if release is None else to_release(release))
                for alias, release in session.execute(query)
            ]

    def using(self, model: str) -> list[str]:
        """Names of the aliases that stand for the model, or may soon."""
        query = (
            select(AliasRow.name)
            .join(ReleaseRow, ReleaseRow.id == AliasRow.release, isouter=True)
            .where(or_(AliasRow.model == model, ReleaseRow.candidate == model))
        )
        with self._database.session() as session:
            return list(session.scalars(query.order_by(AliasRow.name)))

    def delete(self, name: str, *, owner: str | None) -> bool:
        """False if there is none. Raises AliasBusy."""
        mine = (AliasRow.owner == (owner or SHARED)) & (AliasRow.name == name)
        with self._database.session() as session:
            deleted = session.execute(delete(AliasRow).where(mine, AliasRow.release.is_(None)))
            if deleted.rowcount:  # type: ignore[attr-defined]
                return True
            if session.scalar(select(AliasRow.name).where(mine)) is not None:
                raise AliasBusy(name)
        return False


def to_alias(row: AliasRow) -> Alias:
    return Alias(
        name=row.name,
        tenant=row.owner or None,
        model=row.model,
        release=row.release,
        created_at=row.created_at,
    )
