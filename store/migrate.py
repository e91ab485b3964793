"""`python -m store.migrate`: brings the database of the settings to the newest schema, then ends.

`--back-to 0006` brings it back to an older one, before an older Flywheel takes over; what only newer schemas hold is
lost.
"""

import argparse
import sys

from contracts.settings import Settings
from store.database import Database, UnknownRevision
from telemetry.logs import configure_logs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store.migrate", description="Migrate the database's schema.")
    parser.add_argument("--back-to", metavar="REVISION", help="an older revision, as in store/migrations/versions")
    back_to = parser.parse_args().back_to
    settings = Settings()
    configure_logs("flywheel-migrate", settings.telemetry.log_level)
    database = Database(settings.database_url)
    try:
        if back_to is None:
            database.migrate()
        else:
            database.migrate_down(back_to)
    except UnknownRevision as error:
        sys.exit(str(error))
    finally:
        database.dispose()


if __name__ == "__main__":
    main()
