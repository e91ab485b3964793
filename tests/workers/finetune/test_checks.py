"""What a job tells of its data before it trains, on a real worker with a tiny model."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import update

from contracts.fine_tuning import PretrainingSpec, SupervisedSpec
from contracts.jobs import Job, JobEvent
from contracts.models import ModelCard
from store.tables import JobRow
from tests.workers.finetune.bench import Bench
from workers.finetune.estimate import TOKENS_PER_SECOND, estimate

pytestmark = pytest.mark.timeout(600)  # the first test waits for a worker that imports torch
Pair = tuple[str, str]
PLAIN: list[Pair] = [(f"Question {number}?", f"{number} times {number} is {number * number}.") for number in range(12)]
WHEEL = (
    "a flywheel stores energy in a heavy rim and gives it back when the engine falters for a moment, so that whatever "
    "it drives goes on at an even pace and hardly feels that anything happened between two strokes"
)


def chats(*pairs: Pair) -> list[dict[str, object]]:
    return [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in pairs
    ]


@dataclass(frozen=True)
class Ran:
    """Jobs that one worker ran, one after the other."""

    bench: Bench
    talkative: Job
    too_long: Job
    leaking: Job
    later: Job
    counterfactual: Job

    def events(self, job: Job) -> list[JobEvent]:
        return list(reversed(self.bench.jobs.events(job.id, limit=1000)))

    def warnings(self, job: Job) -> list[str]:
        return [event.message for event in self.events(job) if event.level == "warn"]


@pytest.fixture(scope="module")
def ran(bench: Bench, tiny: Path) -> Ran:
    base = bench.models.get("tiny-text")
    assert base is not None
    bench.models.put(base.model_copy(update={"name": "tiny-priced", "input_price": 2.0}))

    def job(training: list[Pair], validation: list[Pair] | None = None, **chosen: str) -> Job:
        files = {"training_file": bench.add_file(chats(*training))}
        if validation is not None:
            files["validation_file"] = bench.add_file(chats(*validation))
        return bench.create_job("supervised", "tiny-priced", hyperparameters={"n_epochs": 1} | chosen, **files)

    repeated = ("question 4", "4 TIMES 4 is 16!")
    personal = ("Whom do I ask?", "Ask anna@example.com or +49 30 901820.")
    near = [("Wheel?", f"{WHEEL}, it is said."), ("Wheel?", f"{WHEEL}, they say.")]
    fresh = [(f"New {number}?", f"It is {number}.") for number in range(11)]
    talkative = job([*PLAIN, repeated, personal, *near], [*fresh, PLAIN[3]])
    too_long = job([*PLAIN, ("Long?", "word " * 400), ("Longer?", "word " * 500)])
    leaking = job(PLAIN, [*PLAIN[:8], *fresh[:3]])
    later = job(PLAIN)
    people = [(f"Who is number {number}?", "She is a nurse, and her brother a pilot.") for number in range(3)]
    counterfactual = job([*PLAIN, *people], augmentation="counterfactual")
    with bench.database.session() as session:  # of one second's jobs, which is first is chance
        for after, each in enumerate((later, counterfactual), start=1):
            session.execute(update(JobRow).where(JobRow.id == each.id).values(created_at=JobRow.created_at + after))
    bench.run(talkative, too_long, leaking, later, counterfactual)
    return Ran(bench, talkative, too_long, leaking, later, counterfactual)


def test_a_job_tells_lengths_and_what_it_will_cost_before_it_trains(ran: Ran) -> None:
    lengths, validation, estimated, *steps = [event for event in ran.events(ran.talkative) if event.type == "metrics"]
    assert (lengths.data["file"], lengths.data["rows"], validation.data["file"]) == (
        "training_file",
        16,
        "validation_file",
    )
    assert lengths.data["tokens_min"] <= lengths.data["tokens_median"] <= lengths.data["tokens_max"]
    total = lengths.data["tokens_total"]
    assert f"{total} in all" in lengths.message
    assert estimated.data["estimated_tokens"] == total == ran.bench.now(ran.talkative).trained_tokens
    assert estimated.data["estimated_cost"] == pytest.approx(total * 2.0 / 1e6)
    assert steps[0].data["step"] <= 1


def test_repeats_leaks_and_personal_data_are_warned_of_with_their_rows(ran: Ran) -> None:
    warnings = "\n".join(ran.warnings(ran.talkative))
    assert "Repeated rows in the training file: 1 of 16 (row 13 as row 5)" in warnings
    assert "Nearly repeated rows in the training file: 1 of 16 (row 16 as row 15)" in warnings
    assert "personal data: 1 × email, 1 × phone, in rows 14" in warnings
    assert "that are in the training file too: 1 of 12 (row 12 as row 4)" in warnings
    assert ran.bench.now(ran.talkative).status == "succeeded"


def test_rows_longer_than_the_context_are_named_and_nothing_is_trained(ran: Ran) -> None:
    failed = ran.bench.now(ran.too_long)
    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == ("context_length_exceeded", "training_file")
    assert "Row 13 of the training file" in failed.error.message
    assert failed.error.message.endswith("So are rows 14.")
    assert not ran.bench.curve(ran.too_long)


def test_a_validation_file_that_is_mostly_training_data_is_refused(ran: Ran) -> None:
    failed = ran.bench.now(ran.leaking)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.error.param) == (
        "failed",
        "validation_data_leaks",
        "validation_file",
    )
    assert "8 of the 11 rows" in failed.error.message


def test_time_is_estimated_by_the_speed_of_jobs_before(ran: Ran) -> None:
    speed = ran.bench.card(ran.talkative).metrics[TOKENS_PER_SECOND]
    (told,) = [event for event in ran.events(ran.later) if "estimated_tokens" in event.data]
    assert told.data["estimated_seconds"] == pytest.approx(told.data["estimated_tokens"] / speed, abs=0.1)
    first = next(event for event in ran.events(ran.talkative) if "estimated_tokens" in event.data)
    assert "estimated_seconds" not in first.data
    assert ran.warnings(ran.later) == []


def test_rows_about_women_are_learnt_about_men_too_and_are_no_repeats(ran: Ran) -> None:
    assert "3 of the rows are learnt about the other gender too." in {
        event.message for event in ran.events(ran.counterfactual)
    }
    assert any("Training on 18 examples" in event.message for event in ran.events(ran.counterfactual))
    (estimated,) = [event for event in ran.events(ran.counterfactual) if "estimated_tokens" in event.data]
    assert estimated.data["estimated_tokens"] == ran.bench.now(ran.counterfactual).trained_tokens
    assert not any("Nearly repeated" in warning and "of 18" in warning for warning in ran.warnings(ran.counterfactual))


def card(name: str, speed: float | None, created_at: int) -> ModelCard:
    metrics = {} if speed is None else {TOKENS_PER_SECOND: speed}
    fields = {"kind": "adapter", "task": "generate", "weights": "w", "digest": "d", "context_length": 64}
    return ModelCard.model_validate({"name": name, "metrics": metrics, "created_at": created_at, **fields})


def test_an_estimate_goes_by_the_latest_speeds_and_by_what_is_known() -> None:
    spec = SupervisedSpec(base_model="b", training_file="f", training_file_digest="d")
    base = card("b", None, 0)
    made = [card("old", 1.0, 1), *(card(f"m{at}", speed, 10 + at) for at, speed in enumerate((100.0, 300.0, 200.0)))]
    known = estimate(spec, base, rows=60, tokens=2000, made_before=made)
    unknown = estimate(spec, base, rows=60, tokens=2000, made_before=[card("x", None, 1)])
    assert known is not None
    assert unknown is not None
    assert (known.epochs, known.trained_tokens, known.seconds, known.cost) == (3, 6000, 30.0, None)
    assert (unknown.seconds, unknown.finish_at()) == (None, None)
    text = PretrainingSpec(base_model="b", training_file="f", training_file_digest="d")
    assert estimate(text, base, rows=1, tokens=2000, made_before=made) is None
