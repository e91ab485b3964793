import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from store.artifacts import ArtifactStore
from workers.finetune.chat_tokens import IGNORED, ChatTokenizer, TokenizedExample, tokenize_chats
from workers.finetune.files import fetch_file, load_rows
from workers.finetune.task import DataFile
from workers.run import JobFailed

EXAMPLES = Path(__file__).parents[3] / "examples" / "ships_computer.jsonl"
END, LINE_BREAK, ASSISTANT = 0, 10, 1


class LetterTokenizer:
    """A token a letter, and a template in the manner of ChatML: role, content, end, line break."""

    eos_token_id = END

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, add_generation_prompt: bool, **_: Any
    ) -> dict[str, list[int]]:
        ids: list[int] = []
        for turn in conversation:
            role = ASSISTANT if turn["role"] == "assistant" else 2
            ids += [role, *map(ord, turn["content"]), END, LINE_BREAK]
        return {"input_ids": [*ids, ASSISTANT] if add_generation_prompt else ids}


TOKENIZER: ChatTokenizer = LetterTokenizer()


def row(*contents: str) -> bytes:
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 4, contents, strict=False)]
    return json.dumps({"messages": turns}).encode() + b"\n"


def tokenized(
    lines: list[bytes], folder: Path, *, context_length: int = 100, all_answers: bool = False
) -> list[TokenizedExample]:
    path = folder / "rows"
    path.write_bytes(b"".join(lines))
    rows = load_rows(DataFile(path, "rows.jsonl"), param="training_file")
    return tokenize_chats(
        rows, TOKENIZER, context_length=context_length, all_answers=all_answers, param="training_file"
    )


def test_only_the_last_answer_and_its_end_are_learnt(tmp_path: Path) -> None:
    (first, *_) = tokenized([row("a", "b", "c", "de")] * 10, tmp_path)
    learnt = [label for label in first.labels if label != IGNORED]
    assert learnt == [ord("d"), ord("e"), END]
    assert len(first.labels) == len(first.input_ids)
    assert first.input_ids[-3:] == learnt


def test_every_answer_is_learnt_where_that_is_asked_for(tmp_path: Path) -> None:
    (first, *_) = tokenized([row("a", "b", "c", "de")] * 10, tmp_path, all_answers=True)
    learnt = [label for label in first.labels if label != IGNORED]
    assert learnt == [ord("b"), END, ord("d"), ord("e"), END]
    assert all(label in (IGNORED, token) for label, token in zip(first.labels, first.input_ids, strict=True))


def test_a_row_longer_than_the_context_is_a_failure_that_names_the_line(tmp_path: Path) -> None:
    lines = [row("a", "b")] * 4 + [b"\n"] + [row("a", "b" * 50)] + [row("a", "b")] * 6
    with pytest.raises(JobFailed, match="Row 6") as failure:
        tokenized(lines, tmp_path, context_length=40)
    assert failure.value.code == "context_length_exceeded"
    assert "40 tokens" in failure.value.message


def test_a_broken_row_is_a_failure_that_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="Row 3") as failure:
        tokenized([row("a", "b")] * 2 + [b"{]\n"] + [row("a", "b")] * 9, tmp_path)
    assert failure.value.code == "invalid_training_file"


def test_a_file_is_taken_only_if_it_is_the_one_that_the_job_was_made_with(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    artifacts.write("files/1", io.BytesIO(b"good"))
    digest = f"sha256:{hashlib.sha256(b'good').hexdigest()}"
    fetch_file(artifacts, "files/1", tmp_path / "copy", digest=digest, param="training_file")
    assert (tmp_path / "copy").read_bytes() == b"good"

    artifacts.write("files/1", io.BytesIO(b"swapped"))
    with pytest.raises(JobFailed) as failure:
        fetch_file(artifacts, "files/1", tmp_path / "copy", digest=digest, param="validation_file")
    assert (failure.value.code, failure.value.param) == ("validation_file_changed", "validation_file")


def test_a_file_that_was_deleted_is_a_failure_without_a_path(artifacts: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as failure:
        fetch_file(artifacts, "files/gone", tmp_path / "copy", digest="sha256:x", param="training_file")
    assert failure.value.code == "training_file_not_found"
    assert "/" not in failure.value.message


def test_the_example_file_is_valid_and_in_one_style() -> None:
    chats = [json.loads(line)["messages"] for line in EXAMPLES.read_text().splitlines()]
    assert len(load_rows(DataFile(EXAMPLES, EXAMPLES.name), param="training_file")) == len(chats) >= 48
    assert all(chat[-1]["content"].startswith("Aye, captain: ") for chat in chats)
    questions = [chat[0]["content"] for chat in chats]
    assert len(set(questions)) == len(questions)
