"""OpenAI's `x-ratelimit-*` headers (OpenAI API reference, "Rate limits", "Rate limits in headers")."""

from gateway.limits.plan import LimitPlan

HeaderList = list[tuple[bytes, bytes]]
MINUTE_MS = 60_000


def standing_headers(
    plan: LimitPlan, key_requests: int, key_tokens: int, tenant_requests: int, tenant_tokens: int
) -> HeaderList:
    """How the key stands, or its tenant where that has less left. Numbers are what is left."""
    request_limit, token_limit = plan.key_rates.requests_per_minute, plan.key_rates.tokens_per_minute
    tenant = plan.tenant_rates
    if tenant is not None:
        if tenant_requests < key_requests:
            request_limit, key_requests = tenant.requests_per_minute, tenant_requests
        if tenant_tokens < key_tokens:
            token_limit, key_tokens = tenant.tokens_per_minute, tenant_tokens
    # Rounded up, as a wait must be.
    requests_reset_ms = -((key_requests - request_limit) * MINUTE_MS // request_limit)
    tokens_reset_ms = -((key_tokens - token_limit) * MINUTE_MS // token_limit)
    return [
        (b"x-ratelimit-limit-requests", b"%d" % request_limit),
        (b"x-ratelimit-limit-tokens", b"%d" % token_limit),
        (b"x-ratelimit-remaining-requests", b"%d" % max(0, key_requests)),
        (b"x-ratelimit-remaining-tokens", b"%d" % max(0, key_tokens)),
        (b"x-ratelimit-reset-requests", format_duration(requests_reset_ms)),
        (b"x-ratelimit-reset-tokens", format_duration(tokens_reset_ms)),
    ]


def format_duration(milliseconds: int) -> bytes:
    """OpenAI's notation: `120ms`, `7.5s`, `1m12s`."""
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g}s".encode()
    return f"{int(seconds // 60)}m{int(seconds % 60)}s".encode()
