"""The gates: from figures to intervals to verdicts.

A gate passes when the whole interval lies on the right side of its threshold, fails when the whole interval lies on
the wrong side, and is unsure otherwise: more requests will tell.
"""

import math
from dataclasses import dataclass

from contracts.releases import (
    Arm,
    ArmFigures,
    Evaluation,
    EvaluationPolicy,
    Evidence,
    GateName,
    GateResult,
    LiveGates,
    PairedScore,
    Verdict,
)
from releases.statistics import Interval, confidence_of_look, difference, quantile, ratio, wilson
from store.feedback import Ratings

MEDIAN = 0.5


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a stage: its figures, and ratings since the release began."""

    figures: dict[Arm, ArmFigures]
    ratings: dict[Arm, Ratings]


def judge_evaluation(policy: EvaluationPolicy, evaluation: Evaluation) -> Evidence:
    gates: list[GateResult] = []
    if policy.log_likelihood is not None:
        least = policy.log_likelihood.min_difference
        gates.append(_paired("log_likelihood", evaluation.log_likelihood, least, evaluation.confidence))
    if policy.similarity is not None:
        least = policy.similarity.min_difference
        gates.append(_paired("similarity", evaluation.similarity, least, evaluation.confidence))
    return Evidence(gates=tuple(gates), evaluation=evaluation)


def judge_traffic(policy: LiveGates, sight: Sight, *, look: int, confidence: float, shadow: bool) -> Evidence:
    """The evidence of the look'th look at a stage, counted from 0.

    Users see nothing of a shadow's answers and its copies wait in no queue, so there only errors and the time to the
    first token are compared.
    """
    judging = _Judging(policy, sight, confidence_of_look(confidence, look))
    gates = [*judging.error_rate(), *judging.time_to_first_token()]
    if not shadow:
        gates += [*judging.tokens_per_second(), *judging.feedback()]
    return Evidence(look=look, gates=tuple(gates), stable=judging.stable, candidate=judging.candidate)


class _Judging:
    def __init__(self, policy: LiveGates, sight: Sight, confidence: float) -> None:
        self._policy = policy
        self._sight = sight
        self._confidence = confidence
        self.stable, self.candidate = sight.figures["stable"], sight.figures["candidate"]

    def error_rate(self) -> list[GateResult]:
        stable, candidate, gate = self.stable, self.candidate, self._policy.error_rate
        of_stable = wilson(stable.errors, stable.requests, self._confidence)
        of_candidate = wilson(candidate.errors, candidate.requests, self._confidence)
        samples = (stable.requests, candidate.requests)
        results = [
            self._at_most(
                "error_rate",
                f"error rate: candidate − stable ≤ {gate.max_increase:g}",
                (of_stable, of_candidate),
                difference(of_candidate, of_stable),
                gate.max_increase,
                samples,
            )
        ]
        if gate.max_rate is not None:
            rule = f"error rate: candidate ≤ {gate.max_rate:g}"
            parts = (of_stable, of_candidate)
            results.append(self._at_most("error_rate_bound", rule, parts, of_candidate, gate.max_rate, samples))
        return results

    def time_to_first_token(self) -> list[GateResult]:
        gate = self._policy.time_to_first_token
        if gate is None:
            return []
        histograms = (self.stable.time_to_first_token, self.candidate.time_to_first_token)
        of_stable, of_candidate = (quantile(histogram, MEDIAN, self._confidence) for histogram in histograms)
        return [
            self._at_most(
                "time_to_first_token",
                f"median time to first token: candidate / stable ≤ {gate.max_ratio:g}",
                (of_stable, of_candidate),
                ratio(of_candidate, of_stable),
                gate.max_ratio,
                (sum(histograms[0].values()), sum(histograms[1].values())),
            )
        ]

    def tokens_per_second(self) -> list[GateResult]:
        gate = self._policy.tokens_per_second
        if gate is None:
            return []
        histograms = (self.stable.tokens_per_second, self.candidate.tokens_per_second)
        of_stable, of_candidate = (quantile(histogram, MEDIAN, self._confidence) for histogram in histograms)
        return [
            self._result(
                "tokens_per_second",
                f"median tokens/s: candidate / stable ≥ {gate.min_ratio:g}",
                at_least(ratio(of_candidate, of_stable), gate.min_ratio),
                (of_stable, of_candidate),
                ratio(of_candidate, of_stable),
                gate.min_ratio,
                (sum(histograms[0].values()), sum(histograms[1].values())),
            )
        ]

    def feedback(self) -> list[GateResult]:
        gate = self._policy.feedback
        if gate is None:
            return []
        stable, candidate = self._sight.ratings["stable"], self._sight.ratings["candidate"]
        of_stable = wilson(stable.up, sum(stable), self._confidence)
        of_candidate = wilson(candidate.up, sum(candidate), self._confidence)
        return [
            self._at_most(
                "feedback",
                f"good ratings: stable − candidate ≤ {gate.max_decrease:g}",
                (of_stable, of_candidate),
                difference(of_stable, of_candidate),
                gate.max_decrease,
                (sum(stable), sum(candidate)),
                required=gate.required,
            )
        ]

    def _at_most(
        self,
        gate: GateName,
        rule: str,
        parts: tuple[Interval, Interval],
        interval: Interval,
        threshold: float,
        samples: tuple[int, int],
        *,
        required: bool = True,
    ) -> GateResult:
        verdict = at_most(interval, threshold)
        return self._result(gate, rule, verdict, parts, interval, threshold, samples, required=required)

    def _result(
        self,
        gate: GateName,
        rule: str,
        verdict: Verdict,
        parts: tuple[Interval, Interval],
        interval: Interval,
        threshold: float,
        samples: tuple[int, int],
        *,
        required: bool = True,
    ) -> GateResult:
        return GateResult(
            gate=gate,
            verdict=verdict,
            required=required,
            rule=rule,
            stable=_finite(parts[0].estimate),
            candidate=_finite(parts[1].estimate),
            stable_samples=samples[0],
            candidate_samples=samples[1],
            estimate=_finite(interval.estimate),
            low=_finite(interval.low),
            high=_finite(interval.high),
            threshold=threshold,
            confidence=self._confidence,
        )


def at_most(interval: Interval, threshold: float) -> Verdict:
    if interval.high <= threshold:
        return "pass"
    return "fail" if interval.low > threshold else "unsure"


def at_least(interval: Interval, threshold: float) -> Verdict:
    if interval.low >= threshold:
        return "pass"
    return "fail" if interval.high < threshold else "unsure"


def _paired(gate: GateName, score: PairedScore, least: float, confidence: float) -> GateResult:
    words = {"log_likelihood": "log-likelihood a token", "similarity": "similarity of answers"}
    return GateResult(
        gate=gate,
        verdict=at_least(Interval(score.difference, score.low, score.high), least),
        rule=f"{words[gate]}: candidate − stable ≥ {least:g}",
        stable=score.stable,
        candidate=score.candidate,
        stable_samples=score.rows,
        candidate_samples=score.rows,
        estimate=score.difference,
        low=score.low,
        high=score.high,
        threshold=least,
        confidence=confidence,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
