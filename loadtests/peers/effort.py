"""How long everything is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    rounds: int
    wrk_s: int
    wrk_alone_s: int
    streams_s: float
    open_streams: tuple[int, ...]
    chunks_per_open_stream: int


FULL = Effort(rounds=5, wrk_s=3, wrk_alone_s=2, streams_s=2, open_streams=(5000, 10_000), chunks_per_open_stream=24)
QUICK = Effort(rounds=2, wrk_s=1, wrk_alone_s=1, streams_s=1, open_streams=(5000,), chunks_per_open_stream=16)
