"""The settings of every service: one tree, read from the environment.

A nested field is named with two underscores: `FLYWHEEL_LIMITS__REQUESTS_PER_MINUTE=600`. What the environment does not
name may be in a file of that name in `/run/secrets`, where Docker and Kubernetes put secrets.
`flywheel config` prints every field with its value and where the value came from.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from contracts.redis_urls import cluster_fault, is_cluster

SECRETS_DIR = Path("/run/secrets")

PositiveInt = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
RoutingPolicyName = Literal["round_robin", "least_loaded", "prefix_aware", "session_affinity", "adapter_aware"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AuthSettings(Section):
    pepper: SecretStr = Field(
        SecretStr(""),
        description="Secret that keys the hash of API keys; at least 32 letters, the same for every gateway.",
    )
    key_cache_s: Seconds = Field(30.0, description="Seconds a looked-up key is trusted without news of it.")
    failures_per_minute: PositiveInt = Field(
        60, description="Failed authentications an address may make a minute, each gateway counting for itself."
    )


class LimitSettings(Section):
    requests_per_minute: PositiveInt = Field(600, description="Requests a minute of a key that sets none itself.")
    tokens_per_minute: PositiveInt = Field(
        400_000, description="Prompt and completion tokens a minute of a key that sets none itself."
    )
    concurrency_lease_s: Annotated[float, Field(ge=1)] = Field(
        10.0, description="Seconds after which the requests in flight of a gateway that was killed no longer count."
    )
    without_redis: Literal["local", "refuse"] = Field(
        "local",
        description="While Redis is away: `local` lets each gateway count rates and concurrency by itself, without "
        "budgets; `refuse` answers 503.",
    )
    edge_requests_per_minute: PositiveInt = Field(
        600, description="Requests a minute of an address to the routes that ask for no key."
    )


class CacheSettings(Section):
    enabled: bool = Field(True, description="Answer repeats from Redis.")
    ttl_s: PositiveInt = Field(3600, description="Seconds that an answer is kept.")
    max_entry_bytes: PositiveInt = Field(1 << 20, description="Longest answer that is kept, in bytes.")
    max_tenant_bytes: PositiveInt = Field(
        256 << 20, description="Bytes of kept answers of one tenant, compressed; beyond it those used longest ago go."
    )
    local_bytes: Annotated[int, Field(ge=0)] = Field(
        64 << 20, description="Bytes of answers that each gateway holds itself, before it asks Redis; 0 for none."
    )
    local_ttl_s: Seconds = Field(5.0, description="Seconds that a gateway holds an answer itself.")
    semantic_model: str = Field(
        "all-minilm-l6-v2", description="Embedding model that compares questions, for keys with a semantic cache."
    )
    semantic_threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="Cosine similarity from which a question may get the answer to another one, 0 to 1."
    )
    semantic_timeout_s: Seconds = Field(
        0.5, description="Seconds that a request waits at most to learn whether a similar question was answered."
    )
    semantic_questions: Annotated[int, Field(gt=0, le=4096)] = Field(
        1024, description="Answered questions that a question is compared with at most, the newest."
    )


class GatewaySettings(Section):
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: PositiveInt = Field(8000, description="Port to listen on.")
    max_body_bytes: PositiveInt = Field(4 << 20, description="Longest JSON body, in bytes.")
    max_upload_bytes: PositiveInt = Field(512 << 20, description="Longest uploaded file, in bytes.")
    lease_refresh_s: Seconds = Field(0.5, description="Seconds between two looks at the engines' leases.")
    engines_known: PositiveInt | None = Field(
        None,
        description="Most engines of one model that a gateway knows and sends to, in a fleet with several times as many"
        " gateways as it takes to know all of them so; all engines if unset.",
    )
    connect_timeout_s: Seconds = Field(2.0, description="Seconds to wait for an engine to accept a connection.")
    idle_timeout_s: Seconds = Field(
        300.0, description="Seconds that an engine may stay silent in the middle of an answer."
    )
    routing_policy: RoutingPolicyName = Field(
        "prefix_aware", description="How one of several engines is chosen; gateway/routing/policies/ describes each."
    )
    hedging: bool = Field(
        False, description="Ask a second engine where a stream's first token is later than 95 of 100 lately were."
    )
    routing_file: Path | None = Field(
        None,
        description="YAML file of fallbacks, aliases and shadows; contracts/routing.py describes it. None if unset.",
    )
    drain_s: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Seconds from SIGTERM until no more connections are taken; meanwhile it answers, but is not ready. "
        "Longer than a load balancer takes to notice.",
    )
    connections_per_engine: PositiveInt = Field(1024, description="Connections open to one engine at most.")
    engine_start_wait_s: Seconds = Field(
        180.0, description="Seconds that a request waits for an engine that starts on demand."
    )


class QueueSettings(Section):
    """Requests wait here while the engines of their base model are full; each gateway has a queue for each."""

    max_wait_s: Seconds = Field(60.0, description="Longest that a request waits for a free place at an engine.")
    max_length: PositiveInt = Field(2048, description="Requests that wait for one base model's engines at most.")
    max_length_per_tenant: PositiveInt = Field(512, description="Of these, requests of one tenant at most.")
    tenant_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description='Shares of tenants when engines are full, for example {"acme": 4}; 1 for all others.'
    )


class CaptureSettings(Section):
    """Of the answers of keys that opted in (`flywheel keys create --capture 0.1`)."""

    retention_days: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Days after which captured answers and feedback are deleted."
    )
    max_bytes: PositiveInt = Field(256 << 10, description="Longest request and answer together, in bytes.")
    queue_bytes: PositiveInt = Field(
        16 << 20, description="Bytes that wait to be redacted in each gateway; what finds no room is dropped."
    )


class EngineSettings(Section):
    host: str = Field("127.0.0.1", description="Address vLLM listens on, and that gateways reach it by.")
    port: PositiveInt = Field(8100, description="Port vLLM listens on.")
    catalogue: Path | None = Field(None, description="Catalogue file; the built-in one if unset.")
    weights_dir: Path = Field(
        Path("~/.cache/flywheel/models"), description="Folder that keeps base weights and adapters on this machine."
    )
    kv_cache_gib: Annotated[float, Field(gt=0)] = Field(2.0, description="KV cache of a CPU engine, in GiB.")
    cpu_threads: PositiveInt | None = Field(
        None, description="Threads of a CPU engine; one for each core it may use if unset."
    )
    lease_ttl_s: Seconds = Field(5.0, description="Seconds that a lease outlives its last renewal.")
    adapter_poll_s: Seconds = Field(5.0, description="Seconds between two looks for adapters to load.")
    adapter_residence_s: Seconds = Field(
        5.0, description="Seconds that a loaded adapter keeps its place, however many others are asked for."
    )
    start_timeout_s: Seconds = Field(600.0, description="Seconds that vLLM may take to become healthy.")
    machines: PositiveInt = Field(
        1,
        description="Machines that one engine spans; those beside the agent's run `python -m inference.follower`.",
    )
    meeting_point: str = Field(
        "localhost:29501", description="Host and port at which the other machines reach the agent's."
    )
    drain_timeout_s: Seconds = Field(30.0, description="Seconds that running requests get when the engine stops.")


class OnDemandSettings(Section):
    """Engines that the local supervisor starts at a model's first request."""

    max_engines: PositiveInt = Field(2, description="Engines that run at a time at most, of those started on demand.")
    idle_s: Seconds = Field(900.0, description="Seconds without a request after which such an engine is ended.")
    start_free_gib: Annotated[float, Field(ge=0)] = Field(
        2.0, description="Free memory that starting one takes, in GiB; with less, the one used longest ago goes first."
    )
    keep_free_gib: Annotated[float, Field(ge=0)] = Field(
        0.5, description="Free memory, in GiB, below which the one used longest ago is ended."
    )


class WorkerSettings(Section):
    queues: str = Field("cpu", description="Queues to take jobs from, separated by commas.")
    lease_ttl_s: Seconds = Field(30.0, description="Seconds that a job's lease outlives its last heartbeat.")
    cancel_poll_s: Seconds = Field(
        0.5, description="Seconds between two looks whether a job was cancelled or paused; one small read each."
    )
    sweep_every_s: Seconds = Field(5.0, description="Seconds between two looks for jobs that no worker cares for.")
    max_attempts: PositiveInt = Field(
        6, description="Attempts at a job that get no further: its worker is killed, or a store is away."
    )
    retry_pause_s: Seconds = Field(5.0, description="Seconds before the second attempt; each later pause is twice it.")
    max_retry_pause_s: Seconds = Field(600.0, description="Longest pause before another attempt, in seconds.")
    checkpoint_every_s: Seconds = Field(60.0, description="Seconds of training between two checkpoints.")
    jobs_per_tenant: PositiveInt | None = Field(
        None, description="Jobs of one tenant that run at once, over all workers; as many as there are if unset."
    )
    default_queue: Literal["cpu", "gpu"] = Field(
        "cpu", description="Queue of jobs that run anywhere; those that need a GPU go to `gpu`."
    )
    artifact_quota_bytes: PositiveInt | None = Field(
        None, description="Bytes of models and checkpoints that a tenant's jobs may store; without a bound if unset."
    )
    scratch_quota_bytes: PositiveInt | None = Field(
        None, description="Bytes of disk that one job may need on its worker; what is free if unset."
    )
    scratch_dir: Path | None = Field(
        None, description="Folder for what jobs write while they run; the system's folder for temporary files if unset."
    )
    threads: PositiveInt | None = Field(None, description="Threads a job computes with; the core count if unset.")
    processes: PositiveInt = Field(
        1, description="Processes that a fine-tuning job trains in, by torchrun; as many as the machine has GPUs."
    )
    machines: PositiveInt = Field(
        1,
        description="Machines that train a job together, each in `processes` processes; those beside the worker's run "
        "`python -m workers.finetune.follower`, and all have `scratch_dir` and the weights on disks that they share.",
    )
    meeting_point: str = Field(
        "localhost:29500",
        description="Host and port at which the other machines reach the worker's, to train together.",
    )
    gateway_url: str | None = Field(
        None,
        description="Where jobs ask models, for example http://gateway:8000/v1; this machine's gateway if unset.",
    )
    engine_python: Path | None = Field(
        None,
        description="Python of an environment with vLLM, for jobs that measure models in engines of their own; the one "
        "beside the worker's environment if unset.",
    )
    compress_python: Path | None = Field(
        None, description="Python of an environment with llmcompressor; the one beside the worker's if unset."
    )
    watts_per_core: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Watts that a busy core draws, for estimates of energy."
    )


class ExternalEndpoint(Section):
    """An OpenAI-compatible API of somebody else."""

    base_url: str = Field(description="For example https://api.example.com/v1.")
    model: str = Field(description="The name that it knows the model by.")
    api_key: SecretStr = Field(SecretStr(""), description="Sent as its bearer token; none if empty.")


class EvaluationSettings(Section):
    endpoints: dict[str, ExternalEndpoint] = Field(
        {},
        description="Models of others that may be evaluated, and may judge, as `external/NAME`: "
        '{"NAME": {"base_url": "https://…/v1", "model": "…", "api_key": "…"}}. Gateways and workers need it.',
    )
    embedding_model: str = Field(
        "all-minilm-l6-v2", description="Model that compares texts where a criterion names none."
    )
    concurrency: PositiveInt = Field(32, description="Questions that one evaluation asks at once.")
    tasks_folder: Path | None = Field(
        None, description="Folder with tasks of lm-evaluation-harness of your own. Workers need it, and trust its code."
    )


class ReleaseSettings(Section):
    interval_s: Seconds = Field(1.0, description="Seconds between a controller's looks at the releases under way.")


class TelemetrySettings(Section):
    otlp_endpoint: str | None = Field(
        None, description="OTLP/HTTP endpoint for traces, for example http://collector:4318; no traces if unset."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="FLYWHEEL_",
        env_nested_delimiter="__",
        extra="ignore",
        hide_input_in_errors=True,  # which holds secrets
        frozen=True,
        env_ignore_empty=True,
        secrets_dir=SECRETS_DIR,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic-settings passes it by name)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = NestedSecretsSettingsSource(
            file_secret_settings, secrets_dir_missing="ok", secrets_nested_delimiter="__"
        )
        return init_settings, env_settings, dotenv_settings, files

    home: Path = Field(Path(".flywheel"), description="Folder of a local stack: database, artifacts, logs, secrets.")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey: one server, or a cluster by some of its servers, "
        "redis+cluster://host-1:6379,host-2:6379.",
    )
    jobs_redis_url: str | None = Field(
        None, description="Redis or Valkey that carries jobs to workers, one server; `redis_url`'s if unset."
    )
    database_url: str = Field(
        "sqlite:///.flywheel/flywheel.db", description="SQLAlchemy URL: sqlite:///… or postgresql+psycopg://…"
    )
    artifacts_url: str = Field("file://.flywheel/artifacts", description="fsspec URL: a folder or s3://bucket/prefix.")

    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    gateway: GatewaySettings = GatewaySettings()
    queue: QueueSettings = QueueSettings()
    capture: CaptureSettings = CaptureSettings()
    engine: EngineSettings = EngineSettings()
    on_demand: OnDemandSettings = OnDemandSettings()
    worker: WorkerSettings = WorkerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    releases: ReleaseSettings = ReleaseSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _jobs_have_one_server(self) -> Self:
        if is_cluster(self.redis_url) and (fault := cluster_fault(self.redis_url)) is not None:
            raise ValueError(f"FLYWHEEL_REDIS_URL is no cluster's: {fault}")
        if is_cluster(self.broker_url):
            raise ValueError(
                "Jobs cannot go through a Redis cluster: set FLYWHEEL_JOBS_REDIS_URL to a Redis that is one server."
            )
        return self

    @property
    def broker_url(self) -> str:
        """The Redis that carries jobs to workers."""
        return self.jobs_redis_url or self.redis_url

    @property
    def gateway_url(self) -> str:
        """Where this machine's jobs ask models."""
        return self.worker.gateway_url or f"http://{self.gateway.host}:{self.gateway.port}/v1"
