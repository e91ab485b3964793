"""`python -m gateway`: one gateway process."""

import contextlib
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn

from contracts.settings import Settings
from gateway.app import SERVICE, create_app
from gateway.drain import Drain
from gateway.job_watch import JobWatch
from gateway.relay.direct import direct_protocol
from gateway.routing.traffic import RoutingFileUnusable
from store.keys import PepperTooShort
from telemetry.logs import configure_logs

START_FAILED = 3
SHUTDOWN_GRACE_S = 30
KEEP_ALIVE_S = 75  # longer than clients and load balancers keep theirs, so that they close first


class Server(uvicorn.Server):
    """Drains when it is told to stop. Then it ends what would last for hours, and waits for what clients have open."""

    def __init__(self, config: uvicorn.Config, job_watch: JobWatch, drain: Drain, *, drain_s: float) -> None:
        super().__init__(config)
        self._job_watch = job_watch
        self._drain, self._drain_s = drain, drain_s
        self._stop: Callable[[], None] | None = None
        self._stop_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal stops at once."""
        if self._drain_s == 0 or self._drain.began:
            super().handle_exit(sig, frame)
            return
        self._drain.begin()
        self._stop = partial(super().handle_exit, sig, frame)
        self._stop_at = time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        if self._stop is not None and time.monotonic() >= self._stop_at:
            self._stop()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._job_watch.close()
        await super().shutdown(sockets)


def main() -> None:
    settings = Settings()
    configure_logs(SERVICE, settings.telemetry.log_level)
    try:
        app = create_app(settings)
    except (PepperTooShort, RoutingFileUnusable) as error:
        sys.exit(str(error))
    config = uvicorn.Config(
        app,
        host=settings.gateway.host,
        port=settings.gateway.port,
        loop="uvloop",
        http=direct_protocol(app.state.data_path, app.state.drain),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = Server(config, app.state.job_watch, app.state.drain, drain_s=settings.gateway.drain_s)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(START_FAILED)


if __name__ == "__main__":
    main()
