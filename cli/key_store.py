"""Keys and tenants of the stack, in the database that its gateways read, and news of their changes."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from cli.errors import CliError
from contracts.invalidation import Invalidation
from contracts.settings import Settings
from store import redis_names
from store.database import Database
from store.keys import KeyRepository
from store.redis_clients import blocking_redis
from store.tenants import TenantRepository


@contextmanager
def open_keys(settings: Settings) -> Iterator[KeyRepository]:
    """The keys of the stack. Raises CliError where its database or its pepper cannot be used."""
    with open_database(settings) as database:
        yield KeyRepository(database, settings.auth.pepper.get_secret_value())


@contextmanager
def open_tenants(settings: Settings) -> Iterator[TenantRepository]:
    """The tenants of the stack. Raises CliError where its database cannot be used."""
    with open_database(settings) as database:
        yield TenantRepository(database)


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database of the stack. Raises CliError where it cannot be used."""
    database = Database(settings.database_url)
    try:
        yield database
    except OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        raise CliError(
            f"The database cannot be used: {reason}.",
            advice="`make up` makes the local one; FLYWHEEL_DATABASE_URL names another.",
        ) from None
    except ValueError as error:
        raise CliError(str(error)) from None
    finally:
        database.dispose()


def publish(settings: Settings, news: Invalidation) -> bool:
    """Whether Redis was reached."""
    try:
        with blocking_redis(settings.redis_url, socket_connect_timeout=2, socket_timeout=2) as redis:
            redis.publish(redis_names.INVALIDATIONS, news.model_dump_json())
    except RedisError:
        return False
    return True
