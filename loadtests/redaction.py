"""Measures what is found of personal data in labelled texts, and how long it takes: `python -m loadtests.redaction`.

The texts are tests/contracts/personal_data.txt; the last line of the output is JSON.
"""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from contracts.personal_data import find_personal_data, redact

LABELLED = Path(__file__).parents[1] / "tests" / "contracts" / "personal_data.txt"
MARK = re.compile(r"\{([a-z_]+)(\?)?:((?:[^{}]|\{[^{}]*\})*)\}")
ROUNDS = 5
PROSE = "The wheel turns and a small model learns from every answer that it gave, so the next turn is quicker. "


@dataclass(frozen=True)
class Labelled:
    text: str
    spans: list[tuple[str, int, int]]
    """Kind, start and end."""


@dataclass
class Score:
    """A finding counts as right where it covers a label whole, whatever kind it gives it."""

    found: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        found = sum(self.found.values())
        return found / (found + len(self.wrong))

    @property
    def recall(self) -> float:
        found = sum(self.found.values())
        return found / (found + sum(self.missed.values()))

    def recall_of(self, kind: str) -> float:
        return self.found[kind] / (self.found[kind] + self.missed[kind])


def read_labelled(path: Path = LABELLED) -> list[Labelled]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_parse(line) for line in lines if line and not line.startswith("#")]


def score(texts: list[Labelled]) -> Score:
    total = Score()
    for labelled in texts:
        findings = find_personal_data(labelled.text)
        for kind, start, end in labelled.spans:
            covered = any(finding.start <= start and end <= finding.end for finding in findings)
            (total.found if covered else total.missed)[kind] += 1
        for finding in findings:
            if not any(finding.start < end and start < finding.end for _, start, end in labelled.spans):
                total.wrong.append(labelled.text[finding.start : finding.end])
    return total


def microseconds_per_kib(text: str) -> float:
    """Of processor time, so that others on the machine count less."""
    redact(text)
    began = time.process_time()
    for _ in range(ROUNDS):
        redact(text)
    return (time.process_time() - began) / ROUNDS * 1e6 / (len(text.encode()) / 1024)


def _parse(line: str) -> Labelled:
    text, spans, end = "", [], 0
    for mark in MARK.finditer(line):
        text += line[end : mark.start()]
        spans.append((mark[1], len(text), len(text) + len(mark[3])))
        text += mark[3]
        end = mark.end()
    return Labelled(text + line[end:], spans)


def main() -> None:
    texts = read_labelled()
    total = score(texts)
    for kind in sorted({*total.found, *total.missed}):
        print(f"{kind:<12} found {total.found[kind]:>3}  missed {total.missed[kind]:>3}")
    print(f"wrongly found: {total.wrong or 'nothing'}")
    dense = "\n".join(labelled.text for labelled in texts)
    figures = {
        "texts": len(texts),
        "precision": round(total.precision, 3),
        "recall": round(total.recall, 3),
        "prose_us_per_kib": round(microseconds_per_kib(PROSE * 100)),
        "labelled_us_per_kib": round(microseconds_per_kib(dense)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
