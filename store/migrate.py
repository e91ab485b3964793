"""`python -m store.migrate`: brings the database of the settings to the newest schema, then ends."""

from contracts.settings import Settings
from store.database import Database
from telemetry.logs import configure_logs


def main() -> None:
    settings = Settings()
    configure_logs("flywheel-migrate", settings.telemetry.log_level)
    database = Database(settings.database_url)
    database.migrate()
    database.dispose()


if __name__ == "__main__":
    main()
