"""Authorisation as a type: a route that takes a `JobsKey` is reached with a key of that scope only."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from contracts.keys import ApiKey, Scope
from gateway.auth.keys import Authenticator

_bearer = HTTPBearer(auto_error=False, description="An API key: `sk-fw-…`.")


def _require(*scopes: Scope) -> Callable[[Request], Awaitable[ApiKey]]:
    async def find_key(request: Request, _documented: Annotated[object, Depends(_bearer)] = None) -> ApiKey:
        authenticator: Authenticator = request.app.state.authenticator

        def address() -> str:
            return request.client.host if request.client else "unknown"

        return await authenticator.authenticate(request.headers.get("authorization"), address=address, scopes=scopes)

    return find_key


AnyKey = Annotated[ApiKey, Depends(_require("inference", "jobs", "admin"))]
AdminKey = Annotated[ApiKey, Depends(_require("admin"))]
JobsKey = Annotated[ApiKey, Depends(_require("jobs"))]
AdminOrJobsKey = Annotated[ApiKey, Depends(_require("admin", "jobs"))]
InferenceKey = Annotated[ApiKey, Depends(_require("inference"))]
