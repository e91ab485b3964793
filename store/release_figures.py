"""What gateways count of a release's two arms, added up in Redis."""

from collections.abc import Mapping

from redis.asyncio import Redis

from contracts.releases import Arm, ArmFigures
from store import redis_names

KEEP_S = 7 * 86_400
"""Seconds that figures outlive the last request they count."""
REQUESTS, ERRORS = "requests", "errors"
FIRST_TOKEN, PACE = "first-token:", "pace:"
ARMS: tuple[Arm, ...] = ("stable", "candidate")


class ReleaseFigures:
    """Figures that may be a second old. Where Redis loses them, a stage counts anew."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, counted: Mapping[tuple[str, str, Arm], Mapping[str, int]]) -> None:
        """Adds what one gateway counted, by release, stage and arm. One round trip."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for of_arm, fields in counted.items():
                name = redis_names.release_figures(*of_arm)
                for field, number in fields.items():
                    pipe.hincrby(name, field, number)
                pipe.expire(name, KEEP_S)
            await pipe.execute()

    async def note_controller(self, alive_s: float) -> None:
        """A controller lives, and will tell so again within `alive_s`."""
        await self._redis.set(redis_names.RELEASE_CONTROLLER, b"1", px=int(alive_s * 1000))

    async def controlled(self) -> bool:
        return bool(await self._redis.exists(redis_names.RELEASE_CONTROLLER))

    async def read(self, release: str, stage: str) -> dict[Arm, ArmFigures]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for arm in ARMS:
                pipe.hgetall(redis_names.release_figures(release, stage, arm))
            return {arm: _figures(raw) for arm, raw in zip(ARMS, await pipe.execute(), strict=True)}


def _figures(raw: Mapping[bytes, bytes]) -> ArmFigures:
    fields = {name.decode(): int(number) for name, number in raw.items()}

    def histogram(prefix: str) -> dict[int, int]:
        return {int(name[len(prefix) :]): number for name, number in fields.items() if name.startswith(prefix)}

    return ArmFigures(
        requests=fields.get(REQUESTS, 0),
        errors=fields.get(ERRORS, 0),
        time_to_first_token=histogram(FIRST_TOKEN),
        tokens_per_second=histogram(PACE),
    )
