"""Where Redis is: one server (`redis://host:6379/0`), or a cluster by some of its servers
(`redis+cluster://host-1:6379,host-2:6379`). Both with `rediss` for TLS.
"""

from urllib.parse import urlsplit

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


def is_cluster(url: str) -> bool:
    return urlsplit(url).scheme in CLUSTER_SCHEMES


def server_urls(url: str) -> tuple[str, ...]:
    """One URL for each server that `url` names. Any one of a cluster's tells of all others."""
    parts = urlsplit(url)
    if (scheme := CLUSTER_SCHEMES.get(parts.scheme)) is None:
        return (url,)
    credentials, at, hosts = parts.netloc.rpartition("@")
    query = f"?{parts.query}" if parts.query else ""
    return tuple(f"{scheme}://{credentials}{at}{host}{query}" for host in hosts.split(","))


def at_address(url: str, host: str, port: int) -> str:
    """The URL of another server of the same cluster as the server at `url`."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    bracketed = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{credentials}{at}{bracketed}:{port}").geturl()


def cluster_fault(url: str) -> str | None:
    """Why no cluster can be reached by this URL, if none can."""
    parts = urlsplit(url)
    if not all(parts.netloc.rpartition("@")[2].split(",")):
        return "It names a server that has no host."
    if parts.path not in ("", "/", "/0"):
        return "A cluster has no databases but 0."
    return None
