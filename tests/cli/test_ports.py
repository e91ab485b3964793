import socket
from collections.abc import Iterator

import pytest

from cli.errors import CliError
from cli.supervisor.ports import choose_ports, free_ports, is_free, next_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as program:
        program.bind(("127.0.0.1", 0))
        program.listen()
        yield int(program.getsockname()[1])


def test_a_port_that_was_asked_for_and_is_taken_is_refused_with_what_to_do(taken: int) -> None:
    with pytest.raises(CliError, match=f"Port {taken} is taken") as caught:
        choose_ports(taken)
    assert caught.value.advice is not None
    assert "PORT=" in caught.value.advice


def test_a_usual_port_that_is_taken_gives_way_to_the_next_free_one(taken: int) -> None:
    assert not is_free(taken)
    assert next_free(taken) > taken


def test_a_free_port_that_was_asked_for_is_taken() -> None:
    port = free_ports(1)[0]
    assert choose_ports(port).gateway == port


def test_port_0_means_any_free_ports_all_different() -> None:
    ports = choose_ports(0)
    assert len({ports.gateway, ports.engine, ports.valkey}) == 3
    assert all(is_free(port) for port in (ports.gateway, ports.engine, ports.valkey))
