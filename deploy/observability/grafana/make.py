"""`make dashboards`: writes Grafana's dashboards as JSON files, from the tables below."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, Threshold, ThresholdsMode

FOLDER = Path(__file__).with_name("dashboards")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
Made = TypeVar("Made", stat.Panel, timeseries.Panel)
A_ROW = 24
SECONDS, SHARE, PER_SECOND, COUNT, BYTES = "s", "percentunit", "reqps", "short", "bytes"


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries` are PromQL → legend. `limit` is where a figure turns red. `exemplars` are dots that lead to traces."""

    title: str
    unit: str
    queries: dict[str, str]
    about: str = ""
    limit: float | None = None
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Panel]
    now: Sequence[Panel] = field(default=())
    """Shown as one number each, above the others."""


def quantile(share: float, histogram: str, by: str, *, over: str = "$__rate_interval") -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({histogram}_bucket[{over}])))"


def rate(counter: str, by: str = "", *, where: str = "") -> str:
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({counter}{where}[$__rate_interval]))"


REQUESTS = rate("flywheel_requests_total", "model")
ERRORS = rate("flywheel_requests_total", "model", where='{status=~"5.."}')
ERRORS_BY_MODEL = f"({ERRORS} or 0 * {REQUESTS}) / ({REQUESTS} > 0)"
CACHED = rate("flywheel_cache_requests_total", where='{result=~"hit|collapsed|semantic"}')
FROM_A_CACHE = f"{CACHED} / ({rate('flywheel_cache_requests_total')} > 0)"
PREFIX_HITS = (
    f"{rate('vllm:prefix_cache_hits_total', 'instance')} / ({rate('vllm:prefix_cache_queries_total', 'instance')} > 0)"
)
DASHBOARDS: dict[str, Sequence[Row]] = {
    "SLO": (
        Row(
            "Objectives over 30 days: 99.5 % without errors of ours, 95 % of first tokens within 2.5 s",
            (
                Panel(
                    "Errors, share of requests",
                    SHARE,
                    {f"flywheel:errors:ratio_rate{window}": window for window in ("5m", "1h", "6h")},
                    "The budget is 0.5 %. An alert pages at 7.2 % over an hour, or 3 % over six.",
                    limit=0.005,
                ),
                Panel(
                    "First tokens later than 2.5 s, share of streams",
                    SHARE,
                    {f"flywheel:late_first_tokens:ratio_rate{window}": window for window in ("5m", "1h", "6h")},
                    "The budget is 5 %.",
                    limit=0.05,
                ),
                Panel(
                    "Errors by status",
                    PER_SECOND,
                    {rate("flywheel_requests_total", "status", where='{status=~"5..|429"}'): "{{status}}"},
                    "429 is a limit that was reached; it uses up no budget.",
                ),
            ),
            now=(
                Panel("Errors, 1 h", SHARE, {"flywheel:errors:ratio_rate1h": ""}, limit=0.005),
                Panel("Errors, 3 d", SHARE, {"flywheel:errors:ratio_rate3d": ""}, limit=0.005),
                Panel("Late first tokens, 1 h", SHARE, {"flywheel:late_first_tokens:ratio_rate1h": ""}, limit=0.05),
                Panel("Late first tokens, 3 d", SHARE, {"flywheel:late_first_tokens:ratio_rate3d": ""}, limit=0.05),
            ),
        ),
    ),
    "Gateway": (
        Row(
            "Requests",
            (
                Panel("Requests by status", PER_SECOND, {rate("flywheel_requests_total", "status"): "{{status}}"}),
                Panel("Requests by model", PER_SECOND, {rate("flywheel_requests_total", "model"): "{{model}}"}),
                Panel(
                    "Duration",
                    SECONDS,
                    {
                        quantile(0.5, "flywheel_request_duration_seconds", "route"): "p50 {{route}}",
                        quantile(0.95, "flywheel_request_duration_seconds", "route"): "p95 {{route}}",
                    },
                    exemplars=True,
                ),
                Panel(
                    "Time to first token",
                    SECONDS,
                    {
                        quantile(0.5, "flywheel_time_to_first_token_seconds", "model"): "p50 {{model}}",
                        quantile(0.95, "flywheel_time_to_first_token_seconds", "model"): "p95 {{model}}",
                    },
                    exemplars=True,
                ),
                Panel(
                    "Tokens a second",
                    COUNT,
                    {rate("flywheel_tokens_total", "model, direction"): "{{model}} {{direction}}"},
                ),
                Panel("Cache", PER_SECOND, {rate("flywheel_cache_requests_total", "result"): "{{result}}"}),
            ),
            now=(
                Panel("Requests a second", PER_SECOND, {rate("flywheel_requests_total"): ""}),
                Panel("In flight", COUNT, {"sum(flywheel_in_flight_requests)": ""}),
                Panel("Waiting", COUNT, {"sum(flywheel_queue_length)": ""}),
                Panel("Limits without Redis", COUNT, {"max(flywheel_limits_local)": ""}, limit=1),
            ),
        ),
        Row(
            "Queue, limits and failures",
            (
                Panel("Waiting for an engine", COUNT, {"sum by (model) (flywheel_queue_length)": "{{model}}"}),
                Panel("Wait, p95", SECONDS, {quantile(0.95, "flywheel_queue_wait_seconds", "model"): "{{model}}"}),
                Panel(
                    "Refused",
                    PER_SECOND,
                    {
                        rate("flywheel_queue_refused_total", "reason"): "queue: {{reason}}",
                        rate("flywheel_rate_limited_requests_total"): "limits",
                    },
                ),
                Panel(
                    "Engines that failed",
                    PER_SECOND,
                    {
                        rate("flywheel_engine_failures_total", "model"): "failed {{model}}",
                        rate("flywheel_retries_total", "result"): "retried: {{result}}",
                        rate("flywheel_fallbacks_total", "model, fallback"): "{{model}} → {{fallback}}",
                    },
                ),
                Panel("Redis errors", PER_SECOND, {rate("flywheel_redis_errors_total", "concern"): "{{concern}}"}),
                Panel("Clients that left early", PER_SECOND, {rate("flywheel_client_disconnects_total"): "left"}),
            ),
        ),
    ),
    "Jobs": (
        Row(
            "Jobs that have not ended",
            (
                Panel("By state", COUNT, {"sum by (state) (max by (queue, state) (flywheel_jobs))": "{{state}}"}),
                Panel("Waiting", COUNT, {'max by (queue) (flywheel_jobs{state="queued"})': "{{queue}}"}),
            ),
            now=(
                Panel("Waiting", COUNT, {'sum(max by (queue) (flywheel_jobs{state="queued"}))': ""}),
                Panel("Running", COUNT, {'sum(max by (queue) (flywheel_jobs{state="running"}))': ""}),
                Panel("Paused", COUNT, {'sum(max by (queue) (flywheel_jobs{state="paused"}))': ""}),
            ),
        ),
    ),
    "Releases": (
        Row(
            "Scheduled evaluations",
            (
                Panel(
                    "By what their newest run found",
                    COUNT,
                    {"sum by (state) (max by (model, state) (flywheel_eval_schedules))": "{{state}}"},
                ),
                Panel("Got worse", COUNT, {'max by (model) (flywheel_eval_schedules{state="worse"})': "{{model}}"}),
            ),
        ),
        Row(
            "Releases under way",
            (
                Panel(
                    "Share of the candidate",
                    SHARE,
                    {"max by (alias, model, state) (flywheel_release_share)": "{{alias}}: {{model}} {{state}}"},
                    "Of the users in a canary; of the requests that are copied in shadow.",
                ),
                Panel(
                    "Errors by model, share of requests",
                    SHARE,
                    {ERRORS_BY_MODEL: "{{model}}"},
                    "What the stable model answered in a failed candidate's place counts as answered.",
                ),
                Panel("Requests by model", PER_SECOND, {rate("flywheel_requests_total", "model"): "{{model}}"}),
                Panel(
                    "Stand-ins",
                    PER_SECOND,
                    {rate("flywheel_fallbacks_total", "model, fallback"): "{{model}} → {{fallback}}"},
                ),
                Panel(
                    "Copies for shadow models",
                    PER_SECOND,
                    {rate("flywheel_shadow_requests_total", "model, result"): "{{model}} {{result}}"},
                ),
                Panel(
                    "Time to first token, p50",
                    SECONDS,
                    {quantile(0.5, "flywheel_time_to_first_token_seconds", "model"): "{{model}}"},
                ),
            ),
        ),
    ),
    "Cost": (
        Row(
            "What was used, by the catalogue's prices",
            (
                Panel("Cost an hour", COUNT, {"sum by (model) (rate(flywheel_cost_total[1h])) * 3600": "{{model}}"}),
                Panel(
                    "Tokens an hour",
                    COUNT,
                    {"sum by (model, direction) (rate(flywheel_tokens_total[1h])) * 3600": "{{model}} {{direction}}"},
                ),
                Panel(
                    "Answers that took no engine, share of requests",
                    SHARE,
                    {FROM_A_CACHE: "from a cache"},
                ),
                Panel(
                    "Tokens that an engine generated an hour",
                    COUNT,
                    {"sum by (instance) (rate(vllm:generation_tokens_total[1h])) * 3600": "{{instance}}"},
                    "Beside what an engine costs, this gives the price of a token.",
                ),
            ),
            now=(
                Panel("Cost, 24 h", COUNT, {"sum(increase(flywheel_cost_total[1d]))": ""}),
                Panel("Tokens in, 24 h", COUNT, {'sum(increase(flywheel_tokens_total{direction="input"}[1d]))': ""}),
                Panel("Tokens out, 24 h", COUNT, {'sum(increase(flywheel_tokens_total{direction="output"}[1d]))': ""}),
            ),
        ),
    ),
    "Engines": (
        Row(
            "Load",
            (
                Panel(
                    "Requests in vLLM",
                    COUNT,
                    {
                        "sum by (instance) (vllm:num_requests_running)": "running {{instance}}",
                        "sum by (instance) (vllm:num_requests_waiting)": "waiting {{instance}}",
                    },
                ),
                Panel(
                    "KV cache in use",
                    SHARE,
                    {"max by (instance) (vllm:kv_cache_usage_perc)": "{{instance}}"},
                    limit=0.95,
                ),
                Panel("Prefix cache hits, share of prompt tokens", SHARE, {PREFIX_HITS: "{{instance}}"}),
                Panel("Preemptions", PER_SECOND, {rate("vllm:num_preemptions_total", "instance"): "{{instance}}"}),
            ),
            now=(
                Panel("Engines", COUNT, {"sum(max by (model) (flywheel_engines))": ""}),
                Panel("Ejected", COUNT, {"max(flywheel_ejected_engines)": ""}, limit=1),
                Panel("Running", COUNT, {"sum(vllm:num_requests_running)": ""}),
                Panel("Waiting", COUNT, {"sum(vllm:num_requests_waiting)": ""}),
            ),
        ),
        Row(
            "Speed",
            (
                Panel(
                    "Tokens a second",
                    COUNT,
                    {
                        rate("vllm:prompt_tokens_total", "instance"): "prompt {{instance}}",
                        rate("vllm:generation_tokens_total", "instance"): "generated {{instance}}",
                    },
                ),
                Panel(
                    "Time to first token in vLLM",
                    SECONDS,
                    {
                        quantile(0.5, "vllm:time_to_first_token_seconds", "instance"): "p50 {{instance}}",
                        quantile(0.95, "vllm:time_to_first_token_seconds", "instance"): "p95 {{instance}}",
                    },
                ),
                Panel(
                    "Time between tokens in vLLM",
                    SECONDS,
                    {
                        quantile(0.5, "vllm:inter_token_latency_seconds", "instance"): "p50 {{instance}}",
                        quantile(0.95, "vllm:inter_token_latency_seconds", "instance"): "p95 {{instance}}",
                    },
                ),
                Panel(
                    "Memory of the API server",
                    BYTES,
                    {'max by (instance) (process_resident_memory_bytes{job="engine"})': "{{instance}}"},
                ),
            ),
        ),
    ),
}


def build(title: str, rows: Sequence[Row]) -> dashboard.Dashboard:
    board = dashboard.Dashboard(f"Flywheel · {title}").uid(f"flywheel-{title.lower()}").tags(["flywheel"])
    board = board.refresh("30s").time("now-3h", "now").readonly().tooltip(DashboardCursorSync.CROSSHAIR)
    for row in rows:
        board = board.with_row(dashboard.Row(row.title))
        for panel in row.now:
            board = board.with_panel(_number(panel).span(A_ROW // len(row.now)).height(4))
        for panel in row.panels:
            board = board.with_panel(_curve(panel).span(A_ROW // 2).height(8))
    return board


def _filled(made: Made, panel: Panel) -> Made:
    made = made.title(panel.title).description(panel.about).unit(panel.unit).datasource(PROMETHEUS).min(0)
    for number, (query, legend) in enumerate(panel.queries.items()):
        target = prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + number))
        made = made.with_target(target.exemplar(True) if panel.exemplars else target)
    return made


def _number(panel: Panel) -> stat.Panel:
    made = _filled(stat.Panel(), panel)
    return made.thresholds(_thresholds(panel)) if panel.limit is not None else made


def _curve(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = _filled(timeseries.Panel(), panel).legend(legend.show_legend(True)).line_width(1).fill_opacity(8)
    if panel.limit is None:
        return made
    style = common.GraphThresholdsStyleConfig().mode("line")
    return made.thresholds(_thresholds(panel)).thresholds_style(style)


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(color="green", value=None), Threshold(color="red", value=panel.limit)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for title, rows in DASHBOARDS.items():
        text = JSONEncoder(sort_keys=True, indent=2).encode(build(title, rows).build())
        (FOLDER / f"{title.lower()}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
