"""`Cache-Control` of a request (RFC 9111, 5.2.1), as far as a cache of answers can honour it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheControl:
    no_cache: bool = False
    no_store: bool = False
    max_age_s: int | None = None

    @classmethod
    def parse(cls, header: bytes | None) -> "CacheControl":
        """Directives that are unknown or make no sense are passed over, as the RFC asks (5.2.3)."""
        if not header:
            return UNCONTROLLED
        no_cache = no_store = False
        max_age_s: int | None = None
        for directive in header.lower().split(b","):
            name, _, value = directive.strip().partition(b"=")
            if name == b"no-cache":
                no_cache = True
            elif name == b"no-store":
                no_store = True
            elif name == b"max-age" and (seconds := value.strip(b'"')).isdigit():
                max_age_s = min(int(seconds), max_age_s if max_age_s is not None else int(seconds))
        return cls(no_cache, no_store, max_age_s)


UNCONTROLLED = CacheControl()
