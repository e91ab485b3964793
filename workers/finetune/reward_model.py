"""A classification model of the registry as the judge of answers. Importing this module imports torch."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from contracts.graders import RewardModelGrader
from workers.run import JobFailed


class RewardModel:
    """`score` gives the probability of the grader's label for each answer, by one forward pass over all."""

    def __init__(self, grader: RewardModelGrader, weights: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(weights)
        self._model = AutoModelForSequenceClassification.from_pretrained(weights, dtype=torch.float32).eval()
        labels = self._model.config.label2id
        if grader.label not in labels:
            message = f"The model `{grader.model}` has no label `{grader.label}`; it has {', '.join(sorted(labels))}."
            raise JobFailed("invalid_grader", message, param="method.reinforcement.grader.label")
        self._label = labels[grader.label]

    @torch.no_grad()
    def score(self, answers: Sequence[str]) -> list[float]:
        encoded = self._tokenizer(
            list(answers),
            padding=True,
            truncation=True,
            max_length=self._model.config.max_position_embeddings,
            return_tensors="pt",
        )
        probabilities = self._model(**encoded).logits.softmax(dim=-1)
        return probabilities[:, self._label].tolist()
