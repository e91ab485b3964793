"""`python -m gateway`: one gateway process."""

import sys

import uvicorn

from contracts.settings import Settings
from gateway.app import SERVICE, create_app
from gateway.relay.direct import direct_protocol
from gateway.routing.traffic import RoutingFileUnusable
from store.keys import PepperTooShort
from telemetry.logs import configure_logs

SHUTDOWN_GRACE_S = 30
KEEP_ALIVE_S = 75  # longer than clients and load balancers keep theirs, so that they close first


def main() -> None:
    settings = Settings()
    configure_logs(SERVICE, settings.telemetry.log_level)
    try:
        app = create_app(settings)
    except (PepperTooShort, RoutingFileUnusable) as error:
        sys.exit(str(error))
    uvicorn.run(
        app,
        host=settings.gateway.host,
        port=settings.gateway.port,
        loop="uvloop",
        http=direct_protocol(app.state.data_path),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


if __name__ == "__main__":
    main()
