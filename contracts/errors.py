"""The error tree. Every error a client can see is one of these, in OpenAI's envelope.

ApiError
├── InvalidRequest              400 invalid_request_error
│   ├── MalformedJson           code invalid_json
│   ├── UnknownParameter        code unknown_parameter
│   ├── InvalidType             code invalid_type
│   ├── InvalidValue            code invalid_value
│   ├── MissingParameter        code missing_required_parameter
│   ├── ContextLengthExceeded   code context_length_exceeded
│   ├── ContentFiltered         code content_filter
│   └── InvalidTrainingFile     code invalid_training_file
├── BodyTooLarge                413 code request_too_large
├── HeadTooLarge                431 code request_header_fields_too_large
├── NotFound                    404 code not_found
│   ├── ModelNotFound           code model_not_found
│   └── RouteNotFound           code unknown_url
├── MethodNotAllowed            405 code method_not_allowed
├── Conflict                    409 code conflict
├── AuthenticationError         401
│   ├── MissingApiKey           code missing_api_key
│   └── InvalidApiKey           code invalid_api_key
├── PermissionDenied            403 code insufficient_permissions
├── RateLimitExceeded           429 code rate_limit_exceeded
│   └── InsufficientQuota       code insufficient_quota
└── ServerError                 500 server_error
    ├── EngineError             502 code engine_error
    ├── SchemaViolation         502 code schema_violation
    ├── NoEngineAvailable       503 code no_engine_available
    ├── EnginesFull             503 code engines_full
    ├── ServiceUnavailable      503 code service_unavailable
    ├── EngineTimeout           504 code engine_timeout
    └── DeadlineExceeded        504 code deadline_exceeded

Source of the shape: OpenAI API reference, "Error codes".
"""

import math
from typing import ClassVar

from pydantic import BaseModel


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorEnvelope(BaseModel):
    """`{"error": {"message", "type", "param", "code"}}`, the body of every answer that is not a success."""

    error: ErrorBody


class ApiError(Exception):
    """An error that knows how it looks to a client: its status, type, code and message."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def envelope(self) -> ErrorEnvelope:
        return ErrorEnvelope(error=ErrorBody(message=self.message, type=self.type, param=self.param, code=self.code))

    def headers(self) -> dict[str, str]:
        if self.retry_after_s is None:
            return {}
        return {"retry-after": str(max(1, math.ceil(self.retry_after_s)))}


class InvalidRequest(ApiError):
    status, type = 400, "invalid_request_error"


class MalformedJson(InvalidRequest):
    code = "invalid_json"


class UnknownParameter(InvalidRequest):
    code = "unknown_parameter"


class InvalidType(InvalidRequest):
    code = "invalid_type"


class InvalidValue(InvalidRequest):
    code = "invalid_value"


class MissingParameter(InvalidRequest):
    code = "missing_required_parameter"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class ContentFiltered(InvalidRequest):
    """A guardrail of the key does not let the prompt pass. The code is also the `finish_reason` of such answers."""

    code = "content_filter"


class InvalidTrainingFile(InvalidRequest):
    code = "invalid_training_file"


class BodyTooLarge(ApiError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class HeadTooLarge(ApiError):
    status, type, code = 431, "invalid_request_error", "request_header_fields_too_large"


class NotFound(ApiError):
    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model `{model}` does not exist or you do not have access to it.", param="model")


class RouteNotFound(NotFound):
    code = "unknown_url"


class MethodNotAllowed(ApiError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class Conflict(ApiError):
    status, type, code = 409, "invalid_request_error", "conflict"


class AuthenticationError(ApiError):
    status, type = 401, "authentication_error"

    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class MissingApiKey(AuthenticationError):
    code = "missing_api_key"


class InvalidApiKey(AuthenticationError):
    code = "invalid_api_key"


class PermissionDenied(ApiError):
    status, type, code = 403, "permission_error", "insufficient_permissions"


class RateLimitExceeded(ApiError):
    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class InsufficientQuota(RateLimitExceeded):
    type, code = "insufficient_quota", "insufficient_quota"

    def headers(self) -> dict[str, str]:
        """OpenAI's SDKs try a 429 again unless they are told not to; a budget stays used up for hours."""
        return {**super().headers(), "x-should-retry": "false"}


class ServerError(ApiError):
    status, type, code = 500, "server_error", "internal_error"


class EngineError(ServerError):
    status, code = 502, "engine_error"


class SchemaViolation(ServerError):
    """A model's answer does not follow the schema that the key's guardrails ask for."""

    status, code = 502, "schema_violation"


class NoEngineAvailable(ServerError):
    status, code = 503, "no_engine_available"


class EnginesFull(ServerError):
    """More requests wait than the queue holds, or this one waited for as long as it may."""

    status, code = 503, "engines_full"


class ServiceUnavailable(ServerError):
    status, code = 503, "service_unavailable"


class EngineTimeout(ServerError):
    status, code = 504, "engine_timeout"


class DeadlineExceeded(ServerError):
    """The time is over that the client itself gave with `x-request-timeout`."""

    status, code = 504, "deadline_exceeded"
