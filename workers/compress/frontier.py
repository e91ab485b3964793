"""Which variants are worth a look, and which to take: pure arithmetic over figures."""

from collections.abc import Callable, Sequence

from contracts.studies import (
    ACCEPTED_SHARE,
    BASELINE,
    Check,
    Constraints,
    Figures,
    Measurement,
    Recommendation,
    Target,
    VariantResult,
)

GIB = 1 << 30
Axis = Callable[[Figures], float]
"""A figure of which more is better."""


def speed_alone(figures: Figures) -> float:
    return figures.at(1).tokens_per_second.median


def speed_together(figures: Figures) -> float:
    return figures.loads[-1].tokens_per_second.median


def smallness(figures: Figures) -> float:
    return -float(figures.peak_memory_bytes)


def frontier(variants: Sequence[VariantResult], axis: Axis) -> list[str]:
    """Variants that no other beats both in score and along `axis`, from the best score on."""
    measured = [(variant.name, variant.figures) for variant in variants if variant.figures is not None]
    measured.sort(key=lambda one: (-one[1].score.mean, -axis(one[1])))
    found: list[str] = []
    furthest = -float("inf")
    for name, figures in measured:
        if axis(figures) > furthest:
            found.append(name)
            furthest = axis(figures)
    return found


def whole_frontier(variants: Sequence[VariantResult]) -> list[str]:
    """Of each of the three axes, in the variants' order."""
    found = {name for axis in (speed_alone, speed_together, smallness) for name in frontier(variants, axis)}
    return [variant.name for variant in variants if variant.name in found]


def recommend(
    variants: Sequence[VariantResult], target: Target, constraints: Constraints, measurement: Measurement
) -> Recommendation:
    """The best along the target of those that keep every constraint, by their estimates; how sure that is stands in the
    checks. The first variant is the baseline."""
    base = variants[0].figures
    assert base is not None
    least = constraints.min_score if constraints.min_score is not None else ACCEPTED_SHARE * base.score.mean
    measured = [(variant.name, variant.figures) for variant in variants if variant.figures is not None]
    checked = {name: checks_of(figures, constraints, least) for name, figures in measured}
    fit = [(name, figures) for name, figures in measured if all(check.met for check in checked[name])]
    if not fit:
        nearest = min(measured, key=lambda one: sum(not check.met for check in checked[one[0]]))
        missed = next(check for check in checked[nearest[0]] if not check.met)
        reason = (
            f"No variant keeps every constraint. The nearest is {nearest[0]}, whose {_of(missed)} is "
            f"{missed.value:.4g} where {missed.bound:.4g} is the bound."
        )
        return Recommendation(variant=None, reason=reason, checks=checked[nearest[0]])
    name, best = max(fit, key=lambda one: _merit(one[1], target, measurement))
    return Recommendation(variant=name, reason=_why(name, best, base, target, measurement), checks=checked[name])


def checks_of(figures: Figures, constraints: Constraints, least_score: float) -> tuple[Check, ...]:
    score, first = figures.score, figures.at(1).ttft_ms
    found = [
        Check(
            name="min_score",
            bound=round(least_score, 4),
            value=round(score.mean, 4),
            met=score.mean >= least_score,
            surely=score.low >= least_score,
        )
    ]
    if (bound := constraints.max_ttft_ms) is not None:
        met, surely = first.median <= bound, first.high <= bound
        found.append(Check(name="max_ttft_ms", bound=bound, value=first.median, met=met, surely=surely))
    if (bound := constraints.max_memory_gib) is not None:
        value = figures.peak_memory_bytes / GIB
        found.append(Check(name="max_memory_gib", bound=bound, value=round(value, 3), met=value <= bound))
    return tuple(found)


def answer_s(figures: Figures, measurement: Measurement) -> float:
    """Of one stream: to the last of so many tokens as were timed."""
    return measurement.answer_tokens / figures.at(1).tokens_per_second.median


def _merit(figures: Figures, target: Target, measurement: Measurement) -> float:
    match target:
        case "latency":
            return -answer_s(figures, measurement)
        case "memory":
            return smallness(figures)
        case "quality":
            return figures.score.mean


def _why(name: str, best: Figures, base: Figures, target: Target, measurement: Measurement) -> str:
    if name == BASELINE:
        return f"No variant that keeps the constraints is better in {target} than the model as it is."
    told = {
        "latency": (
            f"It answers one stream with {measurement.answer_tokens} tokens in {answer_s(best, measurement):.2f} s, "
            f"the baseline in {answer_s(base, measurement):.2f} s.{_doubt(best, base)}"
        ),
        "memory": (
            f"Its engine takes {best.peak_memory_bytes / GIB:.2f} GiB at its highest, "
            f"the baseline's {base.peak_memory_bytes / GIB:.2f} GiB."
        ),
        "quality": f"Its score is {best.score.mean:.3f}, the baseline's {base.score.mean:.3f}.",
    }[target]
    if (than := best.score_difference) is not None:
        told += f" Its score is {than.mean:+.3f} to the baseline's ({than.low:+.3f} … {than.high:+.3f})."
    return told


def _doubt(best: Figures, base: Figures) -> str:
    """A machine's hours differ by more than a study's rounds do: what not even these tell apart is no lead."""
    ours, theirs = best.at(1).tokens_per_second, base.at(1).tokens_per_second
    if ours.low > theirs.high:
        return ""
    return (
        f" Their rounds overlap ({ours.low:.1f} to {ours.high:.1f} and {theirs.low:.1f} to {theirs.high:.1f} tokens a "
        "second), so that may be chance."
    )


def _of(check: Check) -> str:
    return {"min_score": "score", "max_ttft_ms": "time to the first token in ms", "max_memory_gib": "memory in GiB"}[
        check.name
    ]
