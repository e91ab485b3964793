"""Which errors are nobody's fault in the job: the same attempt may succeed a little later, or on another machine."""

import errno

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from store.artifacts import ArtifactsUnavailable, is_away

DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError)
BROKER_ERRORS = (BrokerError, RedisConnectionError, RedisTimeoutError)
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def transient_reason(error: BaseException) -> str | None:
    """What a person reads about an error that is worth another attempt; None for any other error."""
    if isinstance(error, DATABASE_ERRORS):
        return "The database could not be reached."
    if isinstance(error, BROKER_ERRORS):
        return "Redis could not be reached."
    if isinstance(error, OSError) and error.errno in FULL:
        return "There was no room left on a disk."
    if isinstance(error, ArtifactsUnavailable):
        return "The artifact store could not be reached."
    if is_away(error):
        return "A disk or the network could not be reached."
    return None
