"""A process that hammers one key, or holds places of it: `python -m tests.gateway.limits_client REDIS_URL`.

Reads a JSON object a line: what to do. Writes a JSON array a line: what became of it. Ends with its input.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

from contracts.errors import RateLimitExceeded
from contracts.keys import ApiKey
from tests.gateway.admission import Control, admission_control

SLOTS = 8


async def hammer(control: Control, order: dict[str, Any]) -> list[list[float]]:
    """Requests as fast as they get through, from several tasks.

    For each that was admitted: when by Redis' clock, when it ended, in ms, the tokens that it used, those reserved, and
    whether a permit was there for it. Redis' clock is this machine's.
    """
    key = ApiKey.model_validate(order["key"])
    until_s = time.monotonic() + order["seconds"]
    admitted: list[list[float]] = []

    async def slot() -> None:
        while time.monotonic() < until_s:
            reserved = random.randint(1, order["tokens"])
            try:
                admission = await control.admit(key, reserved)
            except RateLimitExceeded:
                await asyncio.sleep(random.uniform(0, 0.02))
                continue
            lent = admission.permits is not None
            at_ms = time.time() * 1000 if lent else admission.admitted_ms
            await asyncio.sleep(random.uniform(0, order["longest_s"]))
            used = random.randint(0, reserved)
            admitted.append([at_ms, time.time() * 1000, used, reserved, lent])
            control.settle(admission, used)

    await asyncio.gather(*(slot() for _ in range(SLOTS)))
    await control.flush()
    return admitted


async def hold(control: Control, order: dict[str, Any]) -> list[int]:
    """Takes a place and keeps it; says 1 if it got one."""
    try:
        await control.admit(ApiKey.model_validate(order["key"]), 1)
    except RateLimitExceeded:
        return [0]
    return [1]


async def main(redis_url: str) -> None:
    async with admission_control(redis_url, concurrency_lease_s=1) as control:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            done = await (hammer if order["do"] == "hammer" else hold)(control, order)
            print(json.dumps(done), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
