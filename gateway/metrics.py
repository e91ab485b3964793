"""The gateway's Prometheus metrics. Labels hold only names of registered models, routes and engines."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

MOST_MODELS = 1000
OTHER = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which nothing asks for
        self.registry = registry = CollectorRegistry()
        self._models: set[str] = set()
        self.requests = Counter(
            "flywheel_requests", "Requests answered.", ["route", "model", "status"], registry=registry
        )
        self.request_duration = Histogram(
            "flywheel_request_duration_seconds",
            "From the first byte in to the last byte out.",
            ["route", "model"],
            registry=registry,
            buckets=SECONDS,
        )
        self.time_to_first_token = Histogram(
            "flywheel_time_to_first_token_seconds",
            "From the first byte in to the first byte of a streamed answer out.",
            ["model"],
            registry=registry,
            buckets=SECONDS,
        )
        self.tokens = Counter("flywheel_tokens", "Tokens used.", ["model", "direction"], registry=registry)
        self.cost = Counter(
            "flywheel_cost",
            "Price of the tokens used, in the catalogue's currency; nothing for models without prices.",
            ["model"],
            registry=registry,
        )
        self.cache = Counter("flywheel_cache_requests", "Requests by cache result.", ["result"], registry=registry)
        self.semantic_lookups = Counter(
            "flywheel_semantic_lookups",
            "Looks for a similar question: answered, no_similar, no_engine, too_late or failed.",
            ["result"],
            registry=registry,
        )
        self.guardrails = Counter(
            "flywheel_guardrails",
            "Requests and answers that a key's policy changed, marked or refused.",
            ["guard", "stage", "action"],
            registry=registry,
        )
        self.limited = Counter("flywheel_rate_limited_requests", "Requests refused by a limit.", registry=registry)
        self.in_flight = Gauge(
            "flywheel_in_flight_requests", "Requests that engines are answering for this gateway.", registry=registry
        )
        self.engines = Gauge("flywheel_engines", "Engines with a live lease.", ["model"], registry=registry)
        self.ejected_engines = Gauge(
            "flywheel_ejected_engines", "Live engines that get no requests because they failed.", registry=registry
        )
        self.retries = Counter("flywheel_retries", "Attempts after a failed one.", ["result"], registry=registry)
        self.hedges = Counter(
            "flywheel_hedges", "Second attempts at a late first token.", ["result"], registry=registry
        )
        self.fallbacks = Counter(
            "flywheel_fallbacks", "Requests that another model was asked for.", ["model", "fallback"], registry=registry
        )
        self.shadows = Counter(
            "flywheel_shadow_requests", "Copies for a shadow model.", ["model", "result"], registry=registry
        )
        self.engine_failures = Counter(
            "flywheel_engine_failures", "Attempts at an engine that failed.", ["model"], registry=registry
        )
        self.disconnects = Counter("flywheel_client_disconnects", "Clients that left early.", registry=registry)
        self.limits_local = Gauge(
            "flywheel_limits_local", "1 while Redis is away and limits are this gateway's own.", registry=registry
        )
        self.redis_errors = Counter("flywheel_redis_errors", "Redis calls that failed.", ["concern"], registry=registry)
        self.queue_length = Gauge(
            "flywheel_queue_length", "Requests that wait for a free place at an engine.", ["model"], registry=registry
        )
        self.queue_wait = Histogram(
            "flywheel_queue_wait_seconds",
            "How long requests that had to wait did so.",
            ["model"],
            registry=registry,
            buckets=SECONDS,
        )
        self.queue_refused = Counter(
            "flywheel_queue_refused",
            "Requests that got no place: gateway_full, tenant_full, waited_too_long or deadline.",
            ["model", "reason"],
            registry=registry,
        )
        self.release_share = Gauge(
            "flywheel_release_share",
            "Share of an alias's users that a model has while a release is under way, and that of the copies before.",
            ["alias", "model", "state"],
            registry=registry,
        )
        self.captures = Counter(
            "flywheel_captures",
            "Sampled answers: written, skipped (no text to learn from), too_long, dropped (no room) or lost.",
            ["result"],
            registry=registry,
        )
        self.moderated = Counter(
            "flywheel_moderated_texts",
            "Texts that /v1/moderations judged: flagged or passed.",
            ["result"],
            registry=registry,
        )
        self.moderation_duration = Histogram(
            "flywheel_moderation_duration_seconds",
            "Time in which the texts of a request were judged.",
            buckets=SECONDS,
            registry=registry,
        )
        self.jobs = Gauge(
            "flywheel_jobs",
            "Jobs that have not ended, of all gateways and workers; none while the database is away.",
            ["queue", "state"],
            registry=registry,
        )
        self.eval_schedules = Gauge(
            "flywheel_eval_schedules",
            "Schedules of evaluations by the state of their newest run: steady, better, worse or failed.",
            ["model", "state"],
            registry=registry,
        )
        self._begin_at_nought()

    def label_of(self, model: str) -> str:
        """The model's name, or `other` once MOST_MODELS have names here: tenants make models without end."""
        if model in self._models:
            return model
        if len(self._models) >= MOST_MODELS:
            return OTHER
        self._models.add(model)
        return model

    def _begin_at_nought(self) -> None:
        """A series that appears with its first event hides that event from `rate` (Prometheus, "Instrumentation",
        "Avoid missing metrics")."""
        for result in ("begun", "over_budget"):
            self.retries.labels(result)
        for result in ("written", "dropped", "lost"):
            self.captures.labels(result)
        for result in ("flagged", "passed"):
            self.moderated.labels(result)
        for concern in ("admission", "cache", "claims", "demand", "leases", "releases"):
            self.redis_errors.labels(concern)
