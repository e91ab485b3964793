"""OpenAI's lists: `{object: "list", data, first_id, last_id, has_more}`, paged by `after` and `limit`."""

from typing import Annotated, Generic, Literal, Self, TypeVar

from fastapi import Query
from pydantic import BaseModel

Item = TypeVar("Item", bound=BaseModel)

After = Annotated[str | None, Query(description="Identifier after which the page starts.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Length of the page at most.")]


class Page(BaseModel, Generic[Item]):
    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False

    @classmethod
    def of(cls, items: list[Item], limit: int) -> Self:
        """`items` was asked for with one more than `limit`, which tells whether there is more."""
        shown = items[:limit]
        ids = [str(item.id) for item in shown]  # type: ignore[attr-defined]
        return cls(
            data=shown,
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
            has_more=len(items) > limit,
        )
