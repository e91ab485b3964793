"""Pages of rows: each begins after the last row of the one before, by columns that order all rows."""

from typing import Any, Literal, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

Order = Literal["asc", "desc"]
Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])


def paged(query: Query, columns: tuple[Any, Any], place: tuple[Any, Any] | None, order: Order) -> Query:
    """In this order; after the row whose columns have the values of `place`, or from the first one."""
    if place is not None:
        query = query.where(tuple_(*columns) > place if order == "asc" else tuple_(*columns) < place)
    return query.order_by(*(column.asc() if order == "asc" else column.desc() for column in columns))


def newest_first(session: Session, query: Query, table: Any, after: str | None) -> Query:
    """Rows of a table with `created_at` and `id`; those older than the row `after`, as long as it is there."""
    last = None if after is None else session.get(table, after)
    return paged(query, (table.created_at, table.id), None if last is None else (last.created_at, last.id), "desc")
