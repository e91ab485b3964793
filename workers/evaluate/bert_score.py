"""BERTScore (Zhang et al., "BERTScore: Evaluating Text Generation with BERT", 2020). Importing this imports torch."""

import threading
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer


class BertScore:
    """Each token of one text finds the most similar one of the other, by the vectors of an encoder's last layer.

    Without weights for rare words and without a baseline. A text is cut at the encoder's context.
    """

    def __init__(self, weights: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(weights)
        self._model = AutoModel.from_pretrained(weights, dtype=torch.float32).eval()
        self._lock = threading.Lock()
        """The tokenizer is for one thread at a time."""

    def f1(self, answer: str, reference: str) -> float:
        """0 to 1: the harmonic mean of how well each text's tokens are found in the other."""
        with self._lock:
            said, wanted = self._vectors(answer), self._vectors(reference)
        if not len(said) or not len(wanted):
            return float(len(said) == len(wanted))
        alike = (said @ wanted.T).clamp(min=0)
        precision, recall = alike.max(dim=1).values.mean(), alike.max(dim=0).values.mean()
        return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0

    @torch.no_grad()
    def _vectors(self, text: str) -> torch.Tensor:
        """Of the text's own tokens, each of length 1. Shape (tokens, hidden)."""
        longest = self._model.config.max_position_embeddings
        encoded = self._tokenizer(
            text, truncation=True, max_length=longest, return_tensors="pt", return_special_tokens_mask=True
        )
        own = encoded.pop("special_tokens_mask")[0] == 0
        hidden = self._model(**encoded).last_hidden_state[0][own]
        return torch.nn.functional.normalize(hidden, dim=-1)
