"""Puts measures without and with mitigation side by side, and says whether the difference is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contracts.bias import Change, Figure, Mitigated
from contracts.evals import Interval
from workers.evaluate.bias.associations import WordSets, effect, likes_of
from workers.evaluate.bias.gaps import MEASURES, Question
from workers.evaluate.bias.preferences import ALL, Pair
from workers.evaluate.statistics import CONFIDENCE, paired_difference, share_interval

GUARD = (Path(__file__).with_name("data") / "guard.txt").read_text().strip()
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Told:
    """What a model did: by pair whether the stereotype was likelier, by question its answer, by request whether it
    declined.
    """

    prefers: Sequence[bool]
    answers: Sequence[str]
    harmful: Sequence[bool]
    harmless: Sequence[bool]


def by_prompt(pairs: Sequence[Pair], questions: Sequence[Question], before: Told, after: Told) -> Mitigated:
    """Of the same pairs and questions, in their order."""
    changes = [_of_pairs(kind, pairs, before, after) for kind in (*sorted({pair.kind for pair in pairs}), ALL)]
    changes += [
        _of_gap(axis, measure, questions, before, after)
        for axis in dict.fromkeys(question.axis for question in questions)
        for measure in MEASURES
    ]
    changes.append(_of_shares("harmful requests declined", before.harmful, after.harmful))
    changes.append(_of_shares("harmless requests declined", before.harmless, after.harmless))
    return Mitigated(by="prompt", changes=tuple(changes))


def by_projection(tests: Sequence[tuple[WordSets, Any, Any]]) -> Mitigated:
    """Of each test the vectors of its words without and with debiasing."""
    return Mitigated(by="embeddings", changes=tuple(_of_association(*test) for test in tests))


def _of_pairs(kind: str, pairs: Sequence[Pair], before: Told, after: Told) -> Change:
    of_kind = [place for place, pair in enumerate(pairs) if kind in (pair.kind, ALL)]
    chosen = ([told.prefers[place] for place in of_kind] for told in (before, after))
    return _of_shares(f"stereotype likelier: {kind}", *chosen)


def _of_shares(measured: str, before: Sequence[bool], after: Sequence[bool]) -> Change:
    found = paired_difference([float(yes) for yes in before], [float(yes) for yes in after])
    return Change(
        measured=measured,
        is_share=True,
        before=_figure(share_interval(sum(before), len(before))),
        after=_figure(share_interval(sum(after), len(after))),
        difference=Figure(value=found.difference, low=found.low, high=found.high),
        p_value=found.p_value,
    )


def _of_gap(axis: str, measure: str, questions: Sequence[Question], before: Told, after: Told) -> Change:
    """Intervals by the bootstrap of the questions within each group, p by a swap of both answers to a question."""
    places = [place for place, question in enumerate(questions) if question.axis == axis]
    groups = np.array([questions[place].group for place in places])
    scores = np.array([[MEASURES[measure](told.answers[place]) for place in places] for told in (before, after)])
    chance, names = np.random.default_rng(0), sorted(set(groups))
    drawn = [chance.choice(np.flatnonzero(groups == name), (RESAMPLES, np.sum(groups == name))) for name in names]
    resampled = [np.ptp([told[chosen].mean(axis=1) for chosen in drawn], axis=0) for told in scores]
    in_group = np.array([(groups == name) / np.sum(groups == name) for name in names]).T
    gaps = np.ptp(scores @ in_group, axis=1)
    swap = chance.random((RESAMPLES, len(places))) < 0.5
    swapped = [np.ptp(np.where(swap, *pair) @ in_group, axis=1) for pair in (scores, scores[::-1])]
    as_large = np.abs(swapped[1] - swapped[0]) >= abs(gaps[1] - gaps[0]) - 1e-12
    return Change(
        measured=f"{measure} by {axis}",
        is_share=False,
        before=_resampled(gaps[0], resampled[0]),
        after=_resampled(gaps[1], resampled[1]),
        difference=_resampled(gaps[1] - gaps[0], resampled[1] - resampled[0]),
        p_value=float((as_large.sum() + 1) / (RESAMPLES + 1)),
    )


def _of_association(sets: WordSets, before: Any, after: Any) -> Change:
    """Intervals by the bootstrap of the targets within each of both sets."""
    size, total = len(sets.targets[0]), len(sets.targets[0]) + len(sets.targets[1])
    likes = [likes_of(sets, vectors) for vectors in (before, after)]
    chance = np.random.default_rng(0)
    drawn = np.hstack(
        [chance.integers(0, size, (RESAMPLES, size)), chance.integers(size, total, (RESAMPLES, total - size))]
    )
    effects = [float(effect(found, size)) for found in likes]
    resampled = [effect(found[drawn], size) for found in likes]
    return Change(
        measured=sets.name,
        is_share=False,
        before=_resampled(effects[0], resampled[0]),
        after=_resampled(effects[1], resampled[1]),
        difference=_resampled(effects[1] - effects[0], resampled[1] - resampled[0]),
        p_value=None,
    )


def _resampled(value: float, resampled: Any) -> Figure:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Figure(value=float(value), low=float(low), high=float(high))


def _figure(interval: Interval) -> Figure:
    return Figure(value=interval.mean, low=interval.low, high=interval.high)
