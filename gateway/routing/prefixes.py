"""What of a prompt an engine may still have in its KV cache, by what was sent there.

A prompt is cut into blocks, and each block's key covers all of the text before it, as in vLLM's own prefix cache
(docs.vllm.ai, "Automatic Prefix Caching"). A set of keys is therefore a trie: a key stands for one path from its root.
"""

from bisect import bisect_left
from collections import OrderedDict
from zlib import crc32

BLOCK_BYTES = 256
MAX_PROMPT_BYTES = 32 * 1024
"""Text past this is not looked at: two prompts that share so much are as good as the same."""
BYTES_PER_TOKEN = 6
"""Rather more than a token of English has: to forget what is still there costs more hits than to remember longer."""
MOST_BLOCKS = 32_768
"""Blocks remembered of one engine at most, about 6 MB of memory; 1.4 million tokens."""

BlockKeys = tuple[int, ...]


def block_keys(model: str, text: bytes) -> BlockKeys:
    """One key for each whole block, the same in every process. About 0.15 µs a block.

    The model counts because adapters share no cache. A key is the depth and a running CRC-32: two prompts in 10⁹ are
    taken for one another, which costs a cache miss and no more.
    """
    whole = min(len(text), MAX_PROMPT_BYTES) // BLOCK_BYTES
    checksum = crc32(model.encode())
    keys = []
    for depth in range(whole):
        checksum = crc32(text[depth * BLOCK_BYTES : (depth + 1) * BLOCK_BYTES], checksum)
        keys.append(depth << 32 | checksum)
    return tuple(keys)


def blocks_in(kv_cache_tokens: int) -> int:
    """Blocks of text that a KV cache of so many tokens holds; as many as we remember where its size is unknown."""
    if kv_cache_tokens <= 0:
        return MOST_BLOCKS
    return max(1, min(MOST_BLOCKS, kv_cache_tokens * BYTES_PER_TOKEN // BLOCK_BYTES))


class PrefixMemory:
    """The blocks sent to one engine, forgotten as the engine evicts them: the least recently used first.

    Of one prompt the deepest blocks are the oldest, as in vLLM, which frees a sequence's blocks from its end. So a
    block is never remembered without those before it, and a match can be found by bisection.
    """

    __slots__ = ("_blocks", "_capacity")

    def __init__(self, capacity: int = MOST_BLOCKS) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._blocks)

    def match(self, keys: BlockKeys) -> int:
        """How many of the first blocks the engine has."""
        blocks = self._blocks
        if not keys or keys[0] not in blocks:
            return 0
        if keys[-1] in blocks:
            return len(keys)
        return bisect_left(keys, True, key=lambda key: key not in blocks)

    def remember(self, keys: BlockKeys) -> None:
        blocks = self._blocks
        for key in reversed(keys):
            blocks[key] = None
            blocks.move_to_end(key)
        self._forget_the_oldest()

    def resize(self, capacity: int) -> None:
        self._capacity = capacity
        self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)
