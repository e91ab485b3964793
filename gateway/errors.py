"""Turns everything that can go wrong in a route into OpenAI's error shape."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from slowapi.errors import RateLimitExceeded as EdgeLimitExceeded
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from contracts.errors import (
    ApiError,
    InvalidRequest,
    InvalidType,
    InvalidValue,
    MalformedJson,
    MethodNotAllowed,
    MissingParameter,
    RateLimitExceeded,
    RouteNotFound,
    ServerError,
    ServiceUnavailable,
    UnknownParameter,
)
from store.artifacts import ArtifactsUnavailable

log = structlog.get_logger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(EdgeLimitExceeded, _on_edge_limit)
    app.add_exception_handler(SQLAlchemyError, _on_database_error)
    app.add_exception_handler(ArtifactsUnavailable, _on_artifacts_away)
    app.add_exception_handler(Exception, _on_unexpected)


def respond(error: ApiError) -> JSONResponse:
    return JSONResponse(error.envelope().model_dump(), status_code=error.status, headers=error.headers())


def explain_validation(failure: dict[str, Any]) -> InvalidRequest:
    """The error for one entry of pydantic's `errors()`."""
    place = [str(part) for part in failure["loc"] if part not in ("body", "query", "path")]
    name = ".".join(place) or None
    kind: str = failure["type"]
    if kind == "json_invalid":
        return MalformedJson("The body is not valid JSON.")
    if kind == "missing":
        return MissingParameter(f"Missing required parameter: `{name}`.", param=name)
    if kind == "extra_forbidden":
        return UnknownParameter(f"Unknown parameter: `{name}`.", param=name)
    error = InvalidType if kind.endswith(("_type", "_parsing")) else InvalidValue
    return error(f"Invalid value for `{name}`: {failure['msg']}.", param=name)


async def _on_api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return respond(error)


async def _on_validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return respond(explain_validation(error.errors()[0]))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == RouteNotFound.status:
        return respond(RouteNotFound(f"Unknown request URL: {where}."))
    if error.status_code == MethodNotAllowed.status:
        return respond(MethodNotAllowed(f"Not allowed: {where}."))
    if error.status_code < ServerError.status:
        return respond(InvalidRequest("The request could not be read."))
    return respond(ServerError("The server failed to answer the request."))


async def _on_edge_limit(_request: Request, _error: Exception) -> JSONResponse:
    return respond(RateLimitExceeded("Too many requests from this address.", retry_after_s=60))


async def _on_database_error(_request: Request, error: Exception) -> JSONResponse:
    log.error("database failed", exc_info=error)
    return respond(ServiceUnavailable("The database cannot be reached at the moment.", retry_after_s=5))


async def _on_artifacts_away(_request: Request, error: Exception) -> JSONResponse:
    log.error("artifact store away", exc_info=error)
    return respond(ServiceUnavailable("Files cannot be reached at the moment.", retry_after_s=5))


async def _on_unexpected(_request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", exc_info=error)
    return respond(ServerError("The server failed to answer the request."))
