"""Chooses the ports of a local stack."""

import socket
from dataclasses import dataclass

from cli.errors import CliError

HOST = "127.0.0.1"
GATEWAY_PORT, ENGINE_PORT, VALKEY_PORT = 8000, 8100, 6390
LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Ports:
    gateway: int
    engine: int
    valkey: int


def choose_ports(gateway: int | None) -> Ports:
    """The usual ports or the next free ones. A `gateway` port that is asked for is taken or refused with CliError;
    0 asks for any free ports, so that many stacks can live on one machine."""
    if gateway == 0:
        return Ports(*free_ports(3))
    if gateway is not None and not is_free(gateway):
        raise CliError(
            f"Port {gateway} is taken by another program.",
            advice="Choose another with PORT=…, or leave it out to take the next free one.",
        )
    chosen = next_free(GATEWAY_PORT) if gateway is None else gateway
    return Ports(chosen, next_free(ENGINE_PORT), next_free(VALKEY_PORT))


def next_free(port: int) -> int:
    for candidate in range(port, min(port + 1000, LAST_PORT)):
        if is_free(candidate):
            return candidate
    raise CliError(f"No port from {port} on is free.", advice="Stop a program that you do not need.")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at this moment, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
