"""What is said of the data before a training starts.

The gateway has checked form and roles at the upload; here is what needs the model's tokenizer, or time: lengths,
repeats, leakage into the validation data, personal data, and an estimate of cost and time.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from statistics import median
from typing import Any

from contracts.chat_dataset import ChatExample
from contracts.dataset_inspection import Repeat, RowText, find_leaks, find_repeats, search_personal_data
from contracts.datasets import NumberedRow, PreferencePair, PromptRow, Row, TagsRow
from contracts.models import ModelCard
from workers.finetune.augmentation import TRAINING, augmented
from workers.finetune.chat_tokens import ChatTokenizer, answer_ids, chat_ids
from workers.finetune.estimate import estimate
from workers.finetune.files import load_rows, too_long
from workers.finetune.launch import choose_environment
from workers.finetune.task import TrainingTask
from workers.run import JobFailed, JobRun

MOST_SHOWN = 5
MOST_LEAKED = 0.5
"""Share of the validation rows that may stand in the training file too. With more, the figures would mean nothing."""
WHOLE = (ChatExample, PreferencePair, PromptRow)
"""Rows that are learnt whole or not at all; other texts are cut into pieces that fit."""
CHECK_EVERY_ROWS = 200
VALIDATION = "validation_file"


def check_data(task: TrainingTask, run: JobRun) -> None:
    """Tells what there is to say as events: figures, warnings with rows, and the estimate.

    A job that goes on from a checkpoint was checked before. Costs about a millisecond a row. Raises JobFailed for rows
    that are longer than the model's context, and where most of the validation file is in the training file.
    """
    if run.resources.checkpoints.with_state(run.job.id):
        return
    with run.validating_files():
        rows = {name: load_rows(file, param=name) for name, file in task.files.items()}
        tokenizer = _load_tokenizer(task)
        tokens = {name: _tell_lengths(name, found, tokenizer, task.base, run) for name, found in rows.items()}
        learnt = augmented(rows[TRAINING], task.spec, param=TRAINING)
        added = learnt[len(rows[TRAINING]) :]
        if learnt is not rows[TRAINING]:
            run.message(f"{len(added)} of the rows are learnt about the other gender too.")
        texts = {name: [RowText.of(row) for row in found] for name, found in rows.items()}
        for name, found in texts.items():
            _tell_repeats(name, found, run)
            _tell_personal_data(name, found, run)
        _tell_leaks(texts, run)
        more = sum(_length(numbered.row, tokenizer) for numbered in added)
        _tell_estimate(task, len(learnt), tokens[TRAINING] + more, run)


def _load_tokenizer(task: TrainingTask) -> Any:
    choose_environment(task.weights)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(task.weights)


def _tell_lengths(name: str, rows: Sequence[NumberedRow], tokenizer: Any, base: ModelCard, run: JobRun) -> int:
    """The tokens of a file. Raises JobFailed for rows that do not fit."""
    lengths = []
    for position, numbered in enumerate(rows):
        lengths.append(_length(numbered.row, tokenizer))
        if position % CHECK_EVERY_ROWS == 0:
            run.check()
    limit = base.context_length
    long = [
        (row.number, length)
        for row, length in zip(rows, lengths, strict=True)
        if length > limit and isinstance(row.row, WHOLE)
    ]
    if long:
        failure = too_long(*long[0], limit, param=name)
        others = f" So are rows {_numbers([number for number, _ in long[1:]])}." if long[1:] else ""
        raise JobFailed(failure.code, failure.message + others, param=failure.param)
    figures = {"min": min(lengths), "median": median(lengths), "max": max(lengths), "total": sum(lengths)}
    run.metrics(
        f"The {_in_words(name)} has {len(rows)} rows of {figures['min']} to {figures['max']} tokens "
        f"(median {figures['median']:.0f}), {figures['total']} in all.",
        {"file": name, "rows": len(rows), **{f"tokens_{figure}": value for figure, value in figures.items()}},
    )
    return sum(lengths)


def _length(row: Row, tokenizer: Any) -> int:
    chat: ChatTokenizer = tokenizer
    match row:
        case ChatExample(messages):
            return sum(map(len, answer_ids(messages, chat)))
        case PreferencePair(input=asked, preferred_output=preferred, non_preferred_output=other):
            answers = ([*asked.messages, *answer] for answer in (preferred, other))
            return max(sum(map(len, answer_ids(turns, chat))) for turns in answers)
        case PromptRow(messages):
            return len(chat_ids(messages, chat, add_generation_prompt=True))
        case TagsRow(tokens):
            return len(tokenizer(tokens, is_split_into_words=True)["input_ids"])
    return len(tokenizer(row.text)["input_ids"])


def _tell_repeats(name: str, texts: Sequence[RowText], run: JobRun) -> None:
    repeats = find_repeats(texts)
    for found, how in ((repeats.exact, "Repeated"), (repeats.near, "Nearly repeated")):
        if found:
            run.message(
                f"{how} rows in the {_in_words(name)}: {len(found)} of {len(texts)} ({_pairs(found)}). "
                "They are learnt more strongly than the rest.",
                level="warn",
            )
    run.check()


def _tell_personal_data(name: str, texts: Sequence[RowText], run: JobRun) -> None:
    found = search_personal_data(texts)
    if not found.counts:
        return
    kinds = ", ".join(f"{count} × {kind.replace('_', ' ')}" for kind, count in found.counts.most_common())
    part = f" (of which the first {found.searched_rows} rows were searched)" if found.searched_rows < len(texts) else ""
    run.message(
        f"The {_in_words(name)}{part} seems to hold personal data: {kinds}, in rows {_numbers(found.rows)}. "
        "A model may repeat what it learns.",
        level="warn",
    )
    run.check()


def _tell_leaks(texts: Mapping[str, Sequence[RowText]], run: JobRun) -> None:
    validation = texts.get(VALIDATION, ())
    if not validation:
        return
    leaks = find_leaks(texts[TRAINING], validation)
    if len(leaks.exact) > MOST_LEAKED * len(validation):
        message = (
            f"{len(leaks.exact)} of the {len(validation)} rows of the validation file are in the training file too: "
            f"{_pairs(leaks.exact)}. What is measured on them would tell nothing."
        )
        raise JobFailed("validation_data_leaks", message, param=VALIDATION)
    for found, how in ((leaks.exact, "are"), (leaks.near, "are nearly")):
        if found:
            run.message(
                f"Rows of the validation file that {how} in the training file too: {len(found)} of {len(validation)} "
                f"({_pairs(found)}). They make the model look better than it is.",
                level="warn",
            )
    run.check()


def _tell_estimate(task: TrainingTask, rows: int, tokens: int, run: JobRun) -> None:
    made = [card for card in run.resources.models.all() if card.parent == task.base.name]
    expected = estimate(task.spec, task.base, rows=rows, tokens=tokens, made_before=made)
    if expected is not None:
        run.metrics(expected.in_words(), expected.figures(), estimated_finish_at=expected.finish_at())


def _pairs(repeats: Sequence[Repeat]) -> str:
    return _some([f"row {repeat.number} as row {repeat.earlier}" for repeat in repeats])


def _numbers(rows: Sequence[int]) -> str:
    return _some([str(row) for row in rows])


def _some(words: Sequence[str]) -> str:
    return ", ".join(islice(words, MOST_SHOWN)) + (", …" if len(words) > MOST_SHOWN else "")


def _in_words(name: str) -> str:
    return name.replace("_", " ")
