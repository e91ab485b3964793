"""Response ids that tell which model answered, so that feedback needs no record of every answer."""

import hashlib
import hmac
from collections.abc import Iterable

MARK_BYTES = 8
_PURPOSE = b"flywheel-ans"


class AnswerMarks:
    """Marks a request's id by its tenant and the model that is asked, and finds the model by the mark again.

    The engine makes the response id of the id that it is sent (vLLM: `chatcmpl-<X-Request-Id>`), so the mark comes to
    the client with the answer, from the cache too, and comes back with the feedback. It is a keyed hash (BLAKE2b, RFC
    7693): it names no model, and nobody can make one up for an answer that was never given. Costs a microsecond for
    an answer and nothing in Redis; finding costs one for each model of the tenant.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(secret.encode()).digest()

    def mark(self, request_id: str, tenant: str, model: str) -> str:
        """`<request id>-<mark>`."""
        return f"{request_id}-{self._digest(request_id, tenant, model)}"

    def model_of(self, response_id: str, tenant: str, models: Iterable[str]) -> str | None:
        """The model among these that gave the tenant this answer; None where none of them did."""
        marked = response_id.partition("-")[2]
        request_id, _, mark = marked.rpartition("-")
        for model in models:
            if hmac.compare_digest(mark.encode(), self._digest(request_id, tenant, model).encode()):
                return model
        return None

    def _digest(self, request_id: str, tenant: str, model: str) -> str:
        text = f"{tenant}\0{model}\0{request_id}".encode()
        return hashlib.blake2b(text, digest_size=MARK_BYTES, key=self._key, person=_PURPOSE).hexdigest()
