"""The cache's parts, each by itself."""

import time

import pytest

from gateway.cache.control import CacheControl
from gateway.cache.digest import QuestionDigests
from gateway.cache.kept import COMPRESS_FROM_BYTES, KeptAnswer, from_bytes, to_bytes
from gateway.cache.local import OVERHEAD_BYTES, LocalAnswers
from tests.gateway.conftest import CHAT

PLAIN = b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"a","name":"x"}]}'


@pytest.mark.parametrize(
    ("header", "control"),
    [
        (None, CacheControl()),
        (b"", CacheControl()),
        (b"no-cache", CacheControl(no_cache=True)),
        (b"No-Store , max-age=0", CacheControl(no_store=True, max_age_s=0)),
        (b'max-age="60"', CacheControl(max_age_s=60)),
        (b"max-age=60, max-age=5", CacheControl(max_age_s=5)),
        (b"max-age=soon, s-maxage=5, max-age=-1, max-stale, no-cachet", CacheControl()),
        (b"max-age=99999999999999999999999", CacheControl(max_age_s=99999999999999999999999)),
    ],
)
def test_cache_control_is_read_as_the_rfc_says(header: bytes | None, control: CacheControl):
    assert CacheControl.parse(header) == control


def test_the_digest_ignores_order_and_who_asks_but_nothing_else():
    def digest(body: bytes, path: str = CHAT, weights: str = "sha256:w") -> str:
        first, again = digests.digest(path, weights, body), digests.digest(path, weights, body)
        assert first == again == QuestionDigests().digest(path, weights, body)
        return first

    digests = QuestionDigests()
    plain = digest(PLAIN)

    assert plain == digest(
        b'{"messages": [{"name":"x","content":"a","role":"user"}], "temperature": 0,'
        b' "user":"u", "top_p":null, "model":"m"}'
    )
    assert plain != digest(b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}]}')
    assert plain != digest(b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"b","name":"x"}]}')
    assert plain != digest(PLAIN, path="/v1/completions")
    assert plain != digest(PLAIN, weights="sha256:retrained")


def test_a_body_seen_before_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch):
    digests = QuestionDigests()
    first = digests.digest(CHAT, "sha256:w", PLAIN)
    monkeypatch.setattr("msgspec.json.decode", None)

    assert digests.digest(CHAT, "sha256:w", PLAIN) == first


@pytest.mark.parametrize("size", [0, COMPRESS_FROM_BYTES - 1, COMPRESS_FROM_BYTES, 300_000])
def test_what_is_kept_comes_back_byte_by_byte(size: int):
    answer = KeptAnswer(b"text/event-stream; charset=utf-8", b"ab" * (size // 2) + b"c" * (size % 2), 1234.5)
    raw = to_bytes(answer)

    assert from_bytes(raw) == answer
    assert (len(raw) < len(answer.body)) == (size >= COMPRESS_FROM_BYTES)


def test_memory_is_bounded_and_loses_what_was_used_longest_ago():
    local = LocalAnswers(max_bytes=3 * (100 + OVERHEAD_BYTES), ttl_s=60)
    for name in ("a", "b", "c"):
        local.put("acme", name, KeptAnswer(b"", b"x" * 100))
    assert local.get("acme", "a") is not None
    local.put("acme", "d", KeptAnswer(b"", b"x" * 100))
    local.put("acme", "huge", KeptAnswer(b"", b"x" * 10_000))

    assert [name for name in "abcd" if local.get("acme", name)] == ["a", "c", "d"]
    assert local.get("acme", "huge") is None
    assert local.held_bytes == 3 * (100 + OVERHEAD_BYTES)
    local.put("acme", "a", KeptAnswer(b"", b""))
    assert local.held_bytes == 2 * 100 + 3 * OVERHEAD_BYTES


def test_memory_forgets_in_time_and_at_news():
    brief, local = LocalAnswers(max_bytes=10_000, ttl_s=0.05), LocalAnswers(max_bytes=10_000, ttl_s=60)
    for answers in (brief, local):
        answers.put("acme", "a", KeptAnswer(b"", b"x"))
        answers.put("other", "a", KeptAnswer(b"", b"x"))
    time.sleep(0.06)
    local.forget("acme")

    assert brief.get("acme", "a") is None
    assert local.get("acme", "a") is None
    assert local.get("other", "a") is not None
    local.clear()
    assert local.held_bytes == 0
