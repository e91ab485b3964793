"""A PostgreSQL of one's own, from Debian's packages."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.debian import program
from tests.processes import STOP_S, Process, free_port

ROOT_MAY_NOT = "nobody"
"""Who runs the server where root runs the tests: PostgreSQL refuses to run as root."""
QUICK = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
"""What was committed outlives the server's death by SIGKILL, but not the machine's."""


class PostgresProcess:
    """Holds what it is given until `remove`, over any number of kills and starts."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="flywheel-postgres-"))
        self._data, self._port = self._folder / "data", free_port()
        self.url = f"postgresql+psycopg://flywheel@127.0.0.1:{self._port}/postgres"
        if os.getuid() == 0:
            account = pwd.getpwnam(ROOT_MAY_NOT)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        options = ["--username=flywheel", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        command = [*_as_ordinary_user(), *program("initdb"), f"--pgdata={self._data}", *options]
        subprocess.run(command, check=True, capture_output=True, cwd="/")
        self.start()

    def start(self) -> None:
        settings = {"listen_addresses": "127.0.0.1", "port": str(self._port), "unix_socket_directories": ""} | QUICK
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        command = [*_as_ordinary_user(), *program("postgres"), "-D", str(self._data), *options]
        self._process = Process(command, log=self._folder / "postgres.log")
        self._process.wait_until(self._answers)

    def kill(self) -> None:
        """With SIGKILL, and the processes that serve connections with it."""
        serving = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        for process in serving:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(serving, timeout=STOP_S)

    def remove(self) -> None:
        os.kill(self._process.pid, signal.SIGINT)  # ends connections; SIGTERM would wait for them
        self._process.wait(timeout_s=STOP_S)
        shutil.rmtree(self._folder)

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """Its URL."""
        name = f"flywheel_test_{uuid.uuid4().hex[:12]}"
        server = create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(self.url).set(database=name).render_as_string()
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    def _answers(self) -> bool:
        try:
            with create_engine(self.url, poolclass=NullPool).connect():
                return True
        except OperationalError:
            return False


def _as_ordinary_user() -> list[str]:
    if os.getuid() != 0:
        return []
    group = pwd.getpwnam(ROOT_MAY_NOT).pw_gid
    return ["setpriv", f"--reuid={ROOT_MAY_NOT}", f"--regid={group}", "--clear-groups"]
