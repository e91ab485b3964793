"""A student with fewer layers, begun with evenly spaced ones of its teacher's (Sanh et al., "DistilBERT", 2019)."""

import torch

from workers.compress.techniques.folders import begin_with, blocks, keep_blocks, load, save
from workers.compress.techniques.learning import learn
from workers.compress.techniques.program import run
from workers.compress.told import CannotMake, Task, Teller


def distil(task: Task, teller: Teller) -> dict[str, float]:
    begin_with(task)
    student, sequences, by = load(task.source), task.sequences(), task.options["by"]
    kept = evenly_spaced(len(blocks(student)), task.options["share"])
    keep_blocks(student, kept)
    teller.message(f"The student has layers {', '.join(map(str, kept))} of its teacher; it learns by {by}.")
    teacher = load(task.teacher or task.source, dtype=torch.bfloat16).eval() if by == "logits" else None
    facts = learn(student, teacher, sequences, steps=task.options["steps"], seed=task.seed, teller=teller, by=by)
    save(student, task)
    return {"layers": float(len(kept)), **facts}


def evenly_spaced(count: int, share: float) -> list[int]:
    """The first and the last of `count` layers, and others between. Raises CannotMake for fewer than two."""
    kept = round(share * count)
    if not 2 <= kept < count:
        raise CannotMake(f"A student of {kept} layers cannot be begun with {count} layers of its teacher.")
    return [round(place * (count - 1) / (kept - 1)) for place in range(kept)]


if __name__ == "__main__":
    run(distil)
