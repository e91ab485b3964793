"""`flywheel dataset`: training files from a gateway's captures, from a table, and what is said about a file."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from contracts.captures import Capture, Feedback
from contracts.identifiers import new_id
from store.captures import CaptureRepository
from store.feedback import FeedbackRepository
from tests.cli.conftest import Flywheel
from tests.gateway_process import GatewayProcess

WHEEL = "A flywheel stores energy in the spin of a heavy rim and gives it back when the engine falters"


class Captured:
    """A tenant's captures in the database of a gateway."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.key = gateway.new_key(scopes=["jobs"])
        self.environment = {"FLYWHEEL_BASE_URL": gateway.base_url, "FLYWHEEL_API_KEY": self.key.secret}
        self._captures = CaptureRepository(gateway.database)
        self._feedback = FeedbackRepository(gateway.database)
        self._count = 0

    def add(self, asked: str, answer: str, *, judged: dict[str, Any] | None = None, **fields: Any) -> None:
        self._count += 1
        shared = {"response_id": f"chatcmpl-{self._count}", "tenant": self.key.key.tenant, "key": "k", "model": "m"}
        created_at = int(time.time()) - 1000 + self._count
        defaults = {"route": "/v1/chat/completions", "duration_s": 1.0, "finish_reason": "stop"}
        messages = [{"role": "user", "content": asked}]
        capture = {"id": new_id("capture"), "messages": messages, "answer": answer, "created_at": created_at}
        self._captures.add([Capture.model_validate(shared | defaults | capture | fields)])
        if judged is not None:
            given = {"id": new_id("feedback"), "created_at": created_at, "model": "m"}
            self._feedback.put(Feedback.model_validate(shared | given | judged))


@pytest.fixture
def captured(gateway: GatewayProcess) -> Captured:
    return Captured(gateway)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers_of(path: Path) -> dict[str, str]:
    return {row["messages"][-2]["content"]: row["messages"][-1]["content"] for row in rows_of(path)}


def test_corrections_replace_answers_and_what_teaches_nothing_is_left_out(
    flywheel: Flywheel, captured: Captured, tmp_path: Path
) -> None:
    captured.add("Plain?", "A plain answer.")
    captured.add("Corrected?", "A wrong answer.", judged={"rating": "down", "correction": "A right answer."})
    captured.add("Corrected?", "Another wrong answer.")
    captured.add("Rated down?", "A bad answer.", judged={"rating": "down"})
    captured.add("Cut?", "An answer that was cut at", finish_reason="length")
    tool = [{"role": "user", "content": "Tool?"}, {"role": "tool", "content": "42"}]
    captured.add("Tool?", "It is 42.", messages=tool)
    out = tmp_path / "train.jsonl"
    done = flywheel("dataset", "build", "--from", "captures", "--out", str(out), **captured.environment)

    assert done.returncode == 0, done.stderr
    assert answers_of(out) == {"Plain?": "A plain answer.", "Corrected?": "A right answer."}
    assert "captures       6" in done.stdout
    for reason in ("corrected elsewhere", "rated down and not corrected", "cut at its length", "tools, pictures"):
        assert reason in done.stdout
    assert "corrected    1" in done.stdout
    assert "2 (a job needs 10)" in done.stdout


def test_captures_are_chosen_by_model_tag_rating_age_and_correction(
    flywheel: Flywheel, captured: Captured, tmp_path: Path
) -> None:
    captured.add("Old?", "Old.", created_at=int(time.time()) - 10 * 86_400)
    captured.add("Other?", "Other.", model="other")
    captured.add("Up?", "Up.", judged={"rating": "up", "tags": ["tone"]})
    captured.add("Fixed?", "Bad.", judged={"correction": "Fixed."})
    out = tmp_path / "train.jsonl"

    def asked_with(*options: str) -> set[str]:
        done = flywheel("dataset", "build", *options, "--out", str(out), **captured.environment)
        assert done.returncode == 0, done.stderr
        return set(answers_of(out))

    assert asked_with() == {"Old?", "Other?", "Up?", "Fixed?"}
    assert asked_with("--since", "7d") == {"Other?", "Up?", "Fixed?"}
    assert asked_with("--model", "other") == {"Other?"}
    assert asked_with("--tag", "tone") == {"Up?"}
    assert asked_with("--rating", "up") == {"Up?"}
    assert asked_with("--corrections-only") == {"Fixed?"}
    nothing = flywheel("dataset", "build", "--tag", "none", "--out", str(out), **captured.environment)
    assert (nothing.returncode, "No captured answer fits" in nothing.stderr) == (1, True)


def test_preferences_put_the_correction_before_the_answer_in_openais_form(
    flywheel: Flywheel, captured: Captured, tmp_path: Path
) -> None:
    captured.add("Plain?", "Plain.", judged={"rating": "up"})
    captured.add("Fixed?", "Bad.", judged={"correction": "Good."})
    out = tmp_path / "pairs.jsonl"
    done = flywheel("dataset", "build", "--format", "preference", "--out", str(out), **captured.environment)

    assert done.returncode == 0, done.stderr
    assert rows_of(out) == [
        {
            "input": {"messages": [{"role": "user", "content": "Fixed?"}]},
            "preferred_output": [{"role": "assistant", "content": "Good."}],
            "non_preferred_output": [{"role": "assistant", "content": "Bad."}],
        }
    ]


def test_exact_and_near_repeats_are_left_out_and_questions_stay_on_one_side(
    flywheel: Flywheel, captured: Captured, tmp_path: Path
) -> None:
    for number in range(40):
        captured.add(f"Question {number}?", f"The answer to question {number} is {number * 7}.")
    captured.add("question 3", "the answer to question 3 is 21")
    captured.add("What is a flywheel?", f"{WHEEL}, which smooths its turning a great deal.")
    captured.add("What is a flywheel?", f"{WHEEL}, which smooths its turning very much.")
    out = tmp_path / "train.jsonl"
    done = flywheel("dataset", "build", "--validation-share", "0.3", "--out", str(out), **captured.environment)
    training, validation = answers_of(out), answers_of(tmp_path / "train.validation.jsonl")

    assert "1 exact, 1 near; left out" in done.stdout
    assert len(training) + len(validation) == 41
    assert not set(training) & set(validation)
    assert 4 <= len(validation) <= 21
    checked = flywheel("dataset", "check", str(out), "--validation", str(tmp_path / "train.validation.jsonl"))
    assert "leakage        rows that are in the training file too: 0; nearly: 0" in checked.stdout


def test_a_table_becomes_a_file_of_chats(flywheel: Flywheel, tmp_path: Path) -> None:
    table, out = tmp_path / "faq.csv", tmp_path / "train.jsonl"
    lines = [
        f'"Question {number}, please?","Answer ""{number}"" of {number * 3}, from help{number}@example.com"'
        for number in range(12)
    ]
    table.write_text("Frage,Antwort,Rest\n" + "\n".join(lines) + "\n,without a question,\n", encoding="utf-8")
    columns = ("--prompt-column", "Frage", "--answer-column", "Antwort", "--out", str(out))
    done = flywheel("dataset", "from-csv", str(table), *columns, "--system", "Be brief.")
    wrong = flywheel("dataset", "from-csv", str(table), "--prompt-column", "Q", *columns[2:])

    assert done.returncode == 0, done.stderr
    assert rows_of(out)[3]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Question 3, please?"},
        {"role": "assistant", "content": 'Answer "3" of 9, from help3@example.com'},
    ]
    assert "1: nothing asked or nothing answered" in done.stdout
    assert "12 × email" in done.stdout
    assert (wrong.returncode, "has no column `Q`" in wrong.stderr, "Frage, Antwort, Rest" in wrong.stderr) == (
        1,
        True,
        True,
    )
    redacted = flywheel("dataset", "from-csv", str(table), *columns, "--redact")
    assert answers_of(out)["Question 3, please?"] == 'Answer "3" of 9, from [EMAIL]'
    assert "none found" in redacted.stdout
    assert flywheel("dataset", "check", str(out)).returncode == 0


def test_a_check_names_repeats_leaks_personal_data_and_broken_rows(flywheel: Flywheel, tmp_path: Path) -> None:
    def chats(name: str, *pairs: tuple[str, str]) -> Path:
        rows = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in pairs]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    plain = [(f"Question {number}?", f"{number} times seven is {number * 7}.") for number in range(10)]
    training = chats("t.jsonl", *plain, plain[4], ("Who?", "Ask anna@example.com."))
    validation = chats("v.jsonl", *[(f"New {number}?", f"New answer {number}.") for number in range(9)], plain[2])
    done = flywheel("dataset", "check", str(training), "--validation", str(validation))
    assert "1 exact (11 as 5)" in done.stdout
    assert "1 × email in rows 12" in done.stdout
    assert "rows that are in the training file too: 1 (10 as 3)" in done.stdout

    training.write_text(training.read_text() + '{"messages": []}\n')
    broken = flywheel("dataset", "check", str(training))
    assert (broken.returncode, "Row 13" in broken.stderr) == (1, True)
