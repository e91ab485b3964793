import pytest

from contracts.redis_urls import at_address, is_cluster, server_urls


def test_one_servers_url_is_itself() -> None:
    assert not is_cluster("redis://host:6379/0")
    assert server_urls("redis://host:6379/3") == ("redis://host:6379/3",)


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("redis+cluster://a:1,b:2", ("redis://a:1", "redis://b:2")),
        ("redis+cluster://:secret@a:1,[::1]:2/0", ("redis://:secret@a:1", "redis://:secret@[::1]:2")),
        ("rediss+cluster://u:p%40@a", ("rediss://u:p%40@a",)),
        ("rediss+cluster://a?ssl_cert_reqs=none", ("rediss://a?ssl_cert_reqs=none",)),
    ],
)
def test_a_clusters_url_names_servers_to_begin_with(url: str, servers: tuple[str, ...]) -> None:
    assert is_cluster(url)
    assert server_urls(url) == servers


def test_other_servers_of_a_cluster_take_the_same_password() -> None:
    assert at_address("rediss://u:p@a:1", "b", 2) == "rediss://u:p@b:2"
    assert at_address("redis://a:1", "::1", 2) == "redis://[::1]:2"
