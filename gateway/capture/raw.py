"""An answered request on its way to be redacted. It never leaves this machine's memory."""

import msgspec


class RawCapture(msgspec.Struct, frozen=True, array_like=True):
    """`request` and `answer` are the bodies as they came and went."""

    request: bytes
    answer: bytes
    tenant: str
    key: str
    model: str
    route: str
    prompt_tokens: int
    completion_tokens: int
    duration_s: float
    first_token_s: float | None
    created_at: int
