"""What is remembered of the prompts that were sent to an engine."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.prefixes import BLOCK_BYTES, MAX_PROMPT_BYTES, MOST_BLOCKS, PrefixMemory, block_keys, blocks_in

MODEL = "model"
# Few different blocks, so that prompts share prefixes.
prompts = st.lists(st.sampled_from([bytes([letter]) * BLOCK_BYTES for letter in b"abc"]), max_size=8).map(b"".join)


def linear_match(memory: PrefixMemory, keys: tuple[int, ...]) -> int:
    return next((depth for depth in range(len(keys)) if memory.match(keys[: depth + 1]) <= depth), len(keys))


@given(prompts, prompts)
def test_two_prompts_share_as_many_keys_as_whole_blocks(one: bytes, other: bytes):
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    keys, other_keys = block_keys(MODEL, one), block_keys(MODEL, other)

    same = [a == b for a, b in zip(keys, other_keys, strict=False)]
    assert same == [place < shared // BLOCK_BYTES for place in range(len(same))]


@given(st.lists(prompts, max_size=30), prompts, st.integers(1, 20))
def test_a_match_is_a_prefix_within_the_bound(sent: list[bytes], asked: bytes, capacity: int):
    memory = PrefixMemory(capacity)
    for prompt in sent:
        memory.remember(block_keys(MODEL, prompt))
    keys = block_keys(MODEL, asked)
    longest = max((len(shared_blocks(asked, prompt)) for prompt in sent), default=0)

    assert len(memory) <= capacity
    assert memory.match(keys) == linear_match(memory, keys)
    assert memory.match(keys) <= longest
    if sum(len(block_keys(MODEL, prompt)) for prompt in sent) <= capacity:
        assert memory.match(keys) == longest


def shared_blocks(one: bytes, other: bytes) -> list[int]:
    both = zip(block_keys(MODEL, one), block_keys(MODEL, other), strict=False)
    return [a for a, b in both if a == b]


@given(st.lists(prompts, min_size=1, max_size=30), st.integers(1, 20))
def test_the_last_prompt_is_remembered_as_far_as_it_fits(sent: list[bytes], capacity: int):
    memory = PrefixMemory(capacity)
    for prompt in sent:
        memory.remember(block_keys(MODEL, prompt))
    last = block_keys(MODEL, sent[-1])

    assert memory.match(last) == min(len(last), capacity)


def test_the_least_recently_used_is_forgotten_first():
    memory = PrefixMemory(4)
    old, kept, new = (block_keys(MODEL, letter * 2 * BLOCK_BYTES) for letter in (b"a", b"b", b"c"))
    for keys in (kept, old, kept, new):
        memory.remember(keys)

    assert (memory.match(old), memory.match(kept), memory.match(new)) == (0, 2, 2)


def test_a_smaller_cache_forgets():
    memory = PrefixMemory()
    keys = block_keys(MODEL, b"a" * 8 * BLOCK_BYTES)
    memory.remember(keys)
    memory.resize(3)

    assert memory.match(keys) == 3


def test_adapters_share_nothing_and_long_prompts_are_cut():
    text = b"a" * (MAX_PROMPT_BYTES * 2)

    assert len(block_keys(MODEL, text)) == MAX_PROMPT_BYTES // BLOCK_BYTES
    assert not set(block_keys(MODEL, text)) & set(block_keys("adapter", text))


def test_the_bound_follows_the_engines_cache():
    assert blocks_in(6400) == 150
    assert blocks_in(0) == blocks_in(10**9) == MOST_BLOCKS
