"""A small model learns to say what a larger one says. Imports torch."""

import math
import random
from collections.abc import Iterator
from typing import Literal

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from workers.compress.told import CannotMake, Teller

BATCH = 4
POSITIONS = 192
"""Tokens of a batch that the loss looks at; of a small model the output layer would take most of the time."""
WARMUP = 0.1
CLIP = 1.0
PADDED = -100
LEARNING_RATE = 3e-4


def learn(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    sequences: list[list[int]],
    *,
    steps: int,
    seed: int,
    teller: Teller,
    by: Literal["logits", "sequence"] = "logits",
) -> dict[str, float]:
    """`steps` batches of `sequences` (token ids), in a random order, as often as it takes.

    By `logits` the loss is the divergence of the student's next-token distribution from the teacher's, in nats a token;
    by `sequence` it is the cross-entropy of the tokens, and no teacher is needed. Products are in half precision and
    weights in fp32. Raises CannotMake where the loss is no number.
    """
    if by == "logits" and teacher is None:
        raise ValueError("logits need a teacher")
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = LambdaLR(optimizer, lambda step: _share_of_rate(step, steps))
    chance = torch.Generator().manual_seed(seed)
    student.train()
    first = last = math.nan
    for step, batch in zip(range(1, steps + 1), _batches(sequences, seed), strict=False):
        with torch.autocast(student.device.type, torch.bfloat16):
            loss = _loss(student, teacher if by == "logits" else None, batch.to(student.device), chance)
        if not torch.isfinite(loss):
            raise CannotMake(f"Its loss was no number any more at step {step}.")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        last = loss.item()
        first = last if step == 1 else first
        teller.step(step, steps, train_loss=last)
    student.eval()
    return {"steps": float(steps), "first_loss": first, "last_loss": last} if steps else {}


def _loss(
    student: PreTrainedModel, teacher: PreTrainedModel | None, batch: torch.Tensor, chance: torch.Generator
) -> torch.Tensor:
    """`batch` is (rows, tokens), with PADDED behind shorter rows. Of at most `POSITIONS` tokens, by chance."""
    followed = (batch[:, 1:] != PADDED).nonzero()
    chosen = followed[torch.randperm(len(followed), generator=chance)[:POSITIONS]]
    rows, places = chosen[:, 0].to(batch.device), chosen[:, 1].to(batch.device)
    said = _logits(student, batch, rows, places)
    if teacher is None:
        return cross_entropy(said, batch[rows, places + 1])
    with torch.no_grad():
        wanted = _logits(teacher, batch, rows, places)
    return kl_div(log_softmax(said, -1), log_softmax(wanted, -1), reduction="batchmean", log_target=True)


def _logits(model: PreTrainedModel, batch: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(positions, vocabulary), in fp32. The output layer, as large as several blocks, sees only these positions."""
    hidden = model.base_model(input_ids=batch.clamp(min=0), attention_mask=(batch != PADDED).long()).last_hidden_state
    logits: torch.Tensor = model.get_output_embeddings()(hidden[rows, places])
    return logits.float()


def _batches(sequences: list[list[int]], seed: int) -> Iterator[torch.Tensor]:
    chance = random.Random(seed)  # noqa: S311 (no secret)
    while True:
        order = chance.sample(range(len(sequences)), len(sequences))
        for start in range(0, len(order), BATCH):
            rows = [torch.tensor(sequences[number]) for number in order[start : start + BATCH]]
            yield torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDED)


def _share_of_rate(step: int, steps: int) -> float:
    """Up during the warmup, then down on a half cosine."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
