"""/v1/feedback: what a tenant's people think of an answer, by its response id."""

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts.captures import Feedback, Rating, Tag
from contracts.errors import MissingParameter, NotFound
from contracts.identifiers import new_id
from contracts.keys import ApiKey
from contracts.personal_data import redact
from gateway.api.access import InferenceKey
from gateway.capture.marks import AnswerMarks
from gateway.routing.models import ModelDirectory
from store.captures import CaptureRepository
from store.feedback import FeedbackRepository

router = APIRouter(prefix="/v1/feedback", tags=["Feedback"])


class GiveFeedback(BaseModel):
    """At least one of `rating`, `correction`, `tags` and `comment`."""

    model_config = ConfigDict(extra="forbid")

    response_id: Annotated[str, Field(min_length=1, max_length=255, description="`id` of the answer.")]
    rating: Rating | None = None
    correction: Annotated[str, Field(min_length=1, max_length=65_536, description="A better answer.")] | None = None
    tags: Annotated[list[Tag], Field(max_length=16)] = []
    comment: Annotated[str, Field(max_length=4096)] | None = None


class FeedbackObject(BaseModel):
    id: str
    object: Literal["feedback"] = "feedback"
    response_id: str
    model: str
    rating: Rating | None
    correction: str | None
    tags: list[str]
    comment: str | None
    created_at: int

    @classmethod
    def of(cls, feedback: Feedback) -> "FeedbackObject":
        return cls.model_validate(feedback, from_attributes=True)


class FeedbackService:
    """Synchronous; the route calls it in a thread."""

    def __init__(
        self, feedback: FeedbackRepository, captures: CaptureRepository, directory: ModelDirectory, marks: AnswerMarks
    ) -> None:
        self._feedback = feedback
        self._captures = captures
        self._directory = directory
        self._marks = marks

    def give(self, given: GiveFeedback, key: ApiKey) -> Feedback:
        """Raises MissingParameter, and NotFound for an answer that this tenant was not given."""
        if given.rating is None and given.correction is None and not given.tags and given.comment is None:
            raise MissingParameter(
                "Missing required parameter: `rating`, `correction`, `tags` or `comment`.", param="rating"
            )
        return self._feedback.put(
            Feedback(
                id=new_id("feedback"),
                response_id=given.response_id,
                tenant=key.tenant,
                key=key.id,
                model=self._model_of(given.response_id, key.tenant),
                rating=given.rating,
                correction=None if given.correction is None else redact(given.correction).text,
                tags=sorted(set(given.tags)),
                comment=None if given.comment is None else redact(given.comment).text,
                created_at=int(time.time()),
            )
        )

    def _model_of(self, response_id: str, tenant: str) -> str:
        """By the id's mark, or among captures where the model exists no more."""
        model = self._marks.model_of(response_id, tenant, self._directory.of_tenant(tenant))
        model = model or self._captures.model_of(response_id, tenant=tenant)
        if model is None:
            raise NotFound(f"No such response: `{response_id}`.", param="response_id")
        return model


def _service(request: Request) -> FeedbackService:
    service: FeedbackService = request.app.state.feedback_service
    return service


@router.post("", summary="Rate, correct or tag an answer; again for the same answer, in place of what was said before.")
async def give_feedback(
    given: GiveFeedback, key: InferenceKey, service: Annotated[FeedbackService, Depends(_service)]
) -> FeedbackObject:
    return FeedbackObject.of(await asyncio.to_thread(service.give, given, key))
