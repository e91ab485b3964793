"""A simulation of vLLM's prefix cache (docs.vllm.ai, "Automatic Prefix Caching")."""

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 16


class PrefixCache:
    """Whole blocks of prompts, the least recently used evicted first; of one prompt the last block first."""

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity = capacity_tokens // BLOCK_TOKENS
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.queries = self.hits = 0

    @property
    def capacity_blocks(self) -> int:
        return self._capacity

    def admit(self, tokens: list[str]) -> int:
        """Takes a prompt in and returns how many of its first tokens were there."""
        blocks, parent = [], 0
        for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
            parent = hash((parent, *tokens[end - BLOCK_TOKENS : end]))
            blocks.append(parent)
        return self.admit_blocks(blocks, len(tokens))

    def admit_blocks(self, blocks: Sequence[int], tokens: int) -> int:
        """The same of a prompt whose blocks have names, each of which covers those before. Counted as vLLM counts."""
        cached = next((at for at, block in enumerate(blocks) if block not in self._blocks), len(blocks))
        for block in reversed(blocks):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)
        self.queries += tokens
        self.hits += cached * BLOCK_TOKENS
        return cached * BLOCK_TOKENS
