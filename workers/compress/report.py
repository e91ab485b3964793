"""A study as a page that somebody reads who wasn't there: what was asked, the table, the picture, what to take."""

from html import escape
from pathlib import Path

from contracts.studies import REPORT_FILES, Figures, Interval, Spread, StudyReport, VariantResult
from workers.compress.frontier import GIB
from workers.compress.picture import draw

MIB = 1 << 20
NOTHING_BEATS = "No other variant is both better and faster, or better and smaller, than one of these."
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; max-width: 1180px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0 }
td, th { padding: 4px 8px; border-bottom: 1px solid #e5e7eb; white-space: nowrap } td.words { white-space: normal }
th { text-align: left; color: #4b5563; white-space: normal; vertical-align: bottom }
tr.chosen td { background: #fff4e6 } small { color: #6b7280 } td small { display: block }
svg { max-width: 100%; height: auto }
"""


def write_report(report: StudyReport, folder: Path) -> None:
    """report.json, report.html, pareto.svg and pareto.png. Imports matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_FILES["json"][0]).write_text(report.model_dump_json(indent=1))
    draw(report, folder)
    (folder / REPORT_FILES["html"][0]).write_text(as_html(report, (folder / REPORT_FILES["svg"][0]).read_text()))


def as_html(report: StudyReport, picture: str) -> str:
    chosen = report.recommendation.variant
    many = report.measurement.streams
    heads = ["variant", "size", "start", "peak memory", "first token, 1 stream"]
    heads += [f"tokens/s, {streams} stream{'s' if streams > 1 else ''}" for streams in many]
    heads += ["J/token, 1 stream", "perplexity", "score", "to the baseline"]
    rows = "".join(_row(variant, variant.name == chosen, report) for variant in report.variants if variant.figures)
    left = [variant for variant in report.variants if variant.figures is None]
    method = next((variant.figures.energy_method for variant in report.variants if variant.figures), "")
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(report.model)}</title><style>{STYLE}</style>",
        f"<h1>{escape(report.model)}: how small and fast, at which price</h1>",
        f"<p>{_took(report)}</p><h2>Recommendation for {escape(report.target)}</h2>",
        f"<p><b>{escape(chosen or 'none')}</b>. {escape(report.recommendation.reason)}</p>{_checks(report)}",
        f"<h2>Frontier</h2>{picture[picture.index('<svg') :]}",
        f"<p>On the frontier: {escape(', '.join(report.frontier))}. {NOTHING_BEATS}</p>",
        f"<h2>Figures</h2><table><tr>{''.join(f'<th>{escape(head)}' for head in heads)}</tr>{rows}</table>",
        f"<p><small>{_method(report)} Energy: {escape(method)}.</small></p>",
    ]
    if left:
        lines = "".join(
            f"<tr><td>{escape(variant.name)}<td>{variant.status.replace('_', ' ')}"
            f"<td class=words>{escape(variant.reason or '')}</tr>"
            for variant in left
        )
        parts.append(f"<h2>Without figures</h2><table>{lines}</table>")
    return "".join(parts) + "</html>"


def _row(variant: VariantResult, chosen: bool, report: StudyReport) -> str:
    figures = variant.figures
    assert figures is not None
    cells = [
        variant.name,
        f"{figures.size_bytes / MIB:.0f} MiB",
        f"{figures.start_s:.0f} s",
        f"{figures.peak_memory_bytes / GIB:.2f} GiB",
        f"{figures.at(1).ttft_ms.median:.0f} ms {_range(figures.at(1).ttft_ms)}",
        *(_rate(figures, streams) for streams in report.measurement.streams),
        "–" if (energy := figures.at(1).joules_per_token) is None else f"{energy:.2f}",
        _interval(figures.perplexity, 1),
        _interval(figures.score, 3),
        "–" if (than := figures.score_difference) is None else _interval(than, 3, signed=True),
    ]
    of_class = " class=chosen" if chosen else ""
    return f"<tr{of_class}>{''.join(f'<td>{cell}' for cell in cells)}</tr>"


def _rate(figures: Figures, streams: int) -> str:
    rate = figures.at(streams).tokens_per_second
    return f"{rate.median:.1f} {_range(rate)}"


def _range(spread: Spread) -> str:
    return f"<small>{spread.low:.4g}–{spread.high:.4g}</small>"


def _interval(value: Interval, digits: int, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    mean, low, high = (f"{number:{sign}.{digits}f}" for number in (value.mean, value.low, value.high))
    return f"{mean} <small>{low} … {high}</small>"


def _checks(report: StudyReport) -> str:
    said = {True: "surely", False: "by its estimate only", None: ""}
    lines = [
        f"<li>{check.name} {check.bound:.4g}: it has {check.value:.4g} – "
        f"{('kept ' + said[check.surely]).strip() if check.met else 'not kept'}"
        for check in report.recommendation.checks
    ]
    return f"<ul>{''.join(lines)}</ul>"


def _took(report: StudyReport) -> str:
    count = len(report.variants)
    return f"{count} variants, measured in {report.seconds / 60:.1f} minutes on {escape(report.machine)}."


def _method(report: StudyReport) -> str:
    wanted = report.measurement
    rows = next(variant.figures.score.rows for variant in report.variants if variant.figures)
    return (
        f"Each variant was served by vLLM and asked {wanted.rounds} times with each number of streams for answers of "
        f"{wanted.answer_tokens} tokens: the median round, with the lowest and highest. Memory is the sum of the "
        f"highest resident memory of the engine's processes. Score: chrF of answers to {rows} held-out conversations, "
        f"with a {wanted.confidence:.0%} bootstrap interval; the difference is paired by conversation."
    )
