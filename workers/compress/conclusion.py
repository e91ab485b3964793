"""How a study ends: what is on the frontier is kept, the report is written, and the recommended model registered."""

import os
import platform
import time
from pathlib import Path

import psutil

from contracts.identifiers import fine_tuned_model_name
from contracts.models import ModelCard
from contracts.studies import BASELINE, REPORT_FIELD, REPORT_FOLDER, Figures, StudyReport, StudySpec, VariantResult
from workers.compress.frontier import GIB, recommend, whole_frontier
from workers.compress.state import StudyState
from workers.run import JobFailed, JobResult, JobRun

CPU_INFO = Path("/proc/cpuinfo")


def conclude(spec: StudySpec, base: ModelCard, state: StudyState, run: JobRun, *, seconds: float) -> JobResult:
    """The job's model is the recommended variant; there is none where that is the baseline, or nothing fits.

    Weights of variants that others beat in everything are not kept.
    """
    from workers.compress.report import write_report  # draws, with matplotlib

    results = state.results
    best = whole_frontier(results)
    advice = recommend(results, spec.target, spec.constraints, spec.measurement)
    kept = {*best, *([] if advice.variant is None else [advice.variant])} - {BASELINE}
    told = tuple(
        result.model_copy(
            update={
                "on_frontier": result.name in best,
                "card": _keep(result, spec, base, state, run) if result.name in kept else None,
            }
        )
        for result in results
    )
    report = StudyReport(
        model=base.name,
        target=spec.target,
        constraints=spec.constraints,
        measurement=spec.measurement,
        machine=this_machine(),
        variants=told,
        frontier=tuple(best),
        recommendation=advice,
        artifact=run.artifact_folder,
        seconds=round(seconds, 1),
    )
    folder = run.scratch / REPORT_FOLDER
    write_report(report, folder)
    run.resources.artifacts.upload_folder(folder, f"{run.artifact_folder}/{REPORT_FOLDER}")
    run.metrics(
        f"For {spec.target}: {advice.variant or 'none'}. {advice.reason}",
        {REPORT_FIELD: report.model_dump(mode="json")},
    )
    chosen = None if advice.variant is None else report.variant(advice.variant)
    model = None if chosen is None else chosen.card
    named = "" if model is None else f" The model is `{model.name}`."
    return JobResult(f"The study has ended after {seconds / 60:.1f} minutes.{named}", model)


def _keep(result: VariantResult, spec: StudySpec, base: ModelCard, state: StudyState, run: JobRun) -> ModelCard | None:
    """Stores the weights with the job's artifacts. None of a variant whose adapter is loaded beside the base: engines
    serve that already."""
    folder = state.weights_of(result.name)
    if folder is None or result.figures is None or result.details.get("merged") is False:
        return None
    path = f"{run.artifact_folder}/{result.name}"
    digest = run.resources.artifacts.upload_folder(folder, path)
    finished = state.finished(result.name)
    if finished is None or digest != finished.digest:
        raise JobFailed("variant_changed", f"The weights of {result.name} are not those that were measured.")
    return ModelCard(
        name=fine_tuned_model_name(base.name, run.job.tenant, result.name, run.job.id),
        kind="full",
        task=base.task,
        parent=base.name,
        tenant=run.job.tenant,
        weights=path,
        digest=digest,
        data_digest=spec.file_digests.get("training_file"),
        job=run.job.id,
        metrics=_as_metrics(result.figures),
        licence=base.licence,
        context_length=base.context_length,
        input_price=base.input_price,
        output_price=base.output_price,
        on_demand=True,
        created_at=int(time.time()),
    )


def _as_metrics(figures: Figures) -> dict[str, float]:
    rates = {f"tokens_per_second_at_{load.streams}": load.tokens_per_second.median for load in figures.loads}
    return rates | {
        "score": round(figures.score.mean, 4),
        "perplexity": round(figures.perplexity.mean, 3),
        "ttft_ms": figures.at(1).ttft_ms.median,
        "peak_memory_gib": round(figures.peak_memory_bytes / GIB, 3),
        "size_mib": round(figures.size_bytes / (1 << 20), 1),
    }


def this_machine() -> str:
    """For people: processor, cores, memory."""
    name = platform.machine()
    if CPU_INFO.is_file():
        lines = (line.partition(":") for line in CPU_INFO.read_text().splitlines())
        name = next((value.strip() for field, _, value in lines if field.strip() == "model name"), name)
    return f"{name}, {os.cpu_count()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB"
