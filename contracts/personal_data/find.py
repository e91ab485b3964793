"""From a text to what is in it, and to the text without that."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from contracts.personal_data.detectors import DETECTORS, Searched
from contracts.personal_data.kinds import KINDS, Kind


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    """`counts`: how often something was taken out, by kind."""

    text: str
    counts: Counter[Kind] = field(default_factory=Counter)


def find_personal_data(text: str, kinds: Collection[Kind] = KINDS) -> list[Finding]:
    """What is found, in the order of the text; no two findings overlap. About 0.1 ms for a KiB."""
    searched, findings, taken = Searched(text), [], bytearray(len(text))
    for detector in DETECTORS:
        if detector.kind not in kinds:
            continue
        for start, end in detector.spans(searched):
            if taken.find(1, start, end) < 0:
                taken[start:end] = b"\1" * (end - start)
                findings.append(Finding(detector.kind, start, end))
    return sorted(findings, key=lambda finding: finding.start)


def count_findings(text: str) -> Counter[Kind]:
    return Counter(finding.kind for finding in find_personal_data(text))


def placeholder(kind: Kind) -> str:
    """`[EMAIL]` for an address, and so on."""
    return f"[{kind.upper()}]"


def redact(text: str, kinds: Collection[Kind] = KINDS) -> Redacted:
    """The text with `[EMAIL]`, `[PHONE]` and so on in place of what is found. A second time changes nothing."""
    findings = find_personal_data(text, kinds)
    if not findings:
        return Redacted(text)
    parts, end = [], 0
    for finding in findings:
        parts += [text[end : finding.start], placeholder(finding.kind)]
        end = finding.end
    parts.append(text[end:])
    return Redacted("".join(parts), Counter(finding.kind for finding in findings))
