"""When a schedule's next run is due. Cron's rules are Celery beat's, in UTC."""

from datetime import UTC, datetime

from celery.schedules import crontab

from contracts.eval_schedules import Timing


def next_time(timing: Timing, *, after: int, due: int | None = None) -> int:
    """The first time after `after`, in Unix seconds. Intervals count from `due`, so that they do not slip with the time
    that it took somebody to look.

    Raises ValueError for an expression that cron does not know or that never comes.
    """
    if timing.every_s is not None:
        begin = after if due is None else due
        return begin + timing.every_s * ((after - begin) // timing.every_s + 1)
    assert timing.cron is not None
    now = datetime.fromtimestamp(after, UTC)
    expression = crontab.from_string(" ".join(timing.cron.split()))
    expression.nowfun = lambda: now
    last, until_next, _ = expression.remaining_delta(now)
    return int((last + until_next).timestamp())
