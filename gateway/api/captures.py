"""/v1/flywheel/captures: the captured answers of this tenant, with what was said of them."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from contracts.captures import CapturedTurn, Rating
from gateway.api.access import AdminKey, AdminOrJobsKey
from gateway.api.feedback import FeedbackObject
from gateway.api.paging import After, Page
from store.captures import CaptureFilter, CaptureRepository, JudgedCapture, hash_user

router = APIRouter(prefix="/v1/flywheel/captures", tags=["Captures"])


class CaptureObject(BaseModel):
    id: str
    object: Literal["capture"] = "capture"
    response_id: str
    key: str
    model: str
    route: str
    messages: list[CapturedTurn]
    answer: str
    finish_reason: str | None
    redacted: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    duration_s: float
    first_token_s: float | None
    created_at: int
    feedback: FeedbackObject | None

    @classmethod
    def of(cls, judged: JudgedCapture) -> "CaptureObject":
        feedback = None if judged.feedback is None else FeedbackObject.of(judged.feedback)
        return cls(**judged.capture.model_dump(exclude={"tenant", "user_hash"}), feedback=feedback)


class CapturesErased(BaseModel):
    object: Literal["captures"] = "captures"
    deleted: int
    feedback_deleted: int


class CaptureService:
    """Synchronous; the routes call it in threads."""

    def __init__(self, captures: CaptureRepository, secret: str) -> None:
        self._captures = captures
        self._secret = secret

    def page(self, tenant: str, wanted: CaptureFilter, *, after: str | None, limit: int) -> list[JudgedCapture]:
        return self._captures.page(tenant=tenant, wanted=wanted, after=after, limit=limit)

    def erase(self, tenant: str, *, user: str | None, response_id: str | None) -> CapturesErased:
        deleted, feedback_deleted = self._captures.erase(
            tenant=tenant, user_hash=self.user_hash(user, tenant), response_id=response_id
        )
        return CapturesErased(deleted=deleted, feedback_deleted=feedback_deleted)

    def user_hash(self, user: str | None, tenant: str) -> str | None:
        return None if user is None else hash_user(user, tenant, self._secret)


def _service(request: Request) -> CaptureService:
    service: CaptureService = request.app.state.capture_service
    return service


Service = Annotated[CaptureService, Depends(_service)]
User = Annotated[str | None, Query(description="Only of requests with this `user`.")]
ResponseId = Annotated[str | None, Query(description="Only this answer.")]


@router.get("", summary="List captured answers with their feedback, newest first.")
async def list_captures(
    key: AdminOrJobsKey,
    service: Service,
    model: Annotated[str | None, Query(description="Only answers of this model.")] = None,
    tag: Annotated[str | None, Query(description="Only answers whose feedback has this tag.")] = None,
    rating: Annotated[Rating | None, Query(description="Only answers that were rated so.")] = None,
    since: Annotated[int | None, Query(description="Only answers since this time, in Unix seconds.")] = None,
    corrected: Annotated[bool | None, Query(description="Only answers with a correction, or without one.")] = None,
    user: User = None,
    response_id: ResponseId = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Length of the page at most.")] = 100,
) -> Page[CaptureObject]:
    wanted = CaptureFilter(model, tag, rating, since, corrected, service.user_hash(user, key.tenant), response_id)
    found = await asyncio.to_thread(service.page, key.tenant, wanted, after=after, limit=limit + 1)
    return Page.of([CaptureObject.of(judged) for judged in found], limit)


@router.delete("", summary="Erase captured answers and their feedback: of a user, one answer, or all of this tenant.")
async def erase_captures(
    key: AdminKey, service: Service, user: User = None, response_id: ResponseId = None
) -> CapturesErased:
    return await asyncio.to_thread(service.erase, key.tenant, user=user, response_id=response_id)
