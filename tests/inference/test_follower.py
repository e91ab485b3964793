"""A machine that lends its GPUs to another one's engine."""

import asyncio
import os
import sys
from pathlib import Path

import psutil

from inference import follower
from inference.command import EngineCommand
from inference.follower import follow


def started(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def until_started(file: Path, times: int) -> None:
    async with asyncio.timeout(20):
        while len(started(file)) < times:
            await asyncio.sleep(0.05)


async def test_a_follower_starts_vllm_again_when_the_engine_left_and_ends_it_when_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "PAUSE_S", 0.1)
    starts = tmp_path / "starts"
    script = f"import os, time; open({str(starts)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    stop = asyncio.Event()
    following = asyncio.create_task(follow(EngineCommand((sys.executable, "-c", script), dict(os.environ)), stop))

    await until_started(starts, 1)
    psutil.Process(started(starts)[0]).kill()  # as vLLM ends when the agent's machine is gone
    await until_started(starts, 2)
    assert psutil.pid_exists(started(starts)[1])
    stop.set()
    await asyncio.wait_for(following, 20)

    assert not any(psutil.pid_exists(pid) for pid in started(starts))
    assert len(started(starts)) == 2
