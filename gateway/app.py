"""Wires the gateway. The only place that builds its parts."""

import gc
import re
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from contracts.settings import Settings
from contracts.text_classifiers import TextClassifiers
from gateway.api import aliases as aliases_api
from gateway.api import (
    bias_reports,
    captures,
    engines,
    eval_history,
    eval_runs,
    eval_schedules,
    evals,
    feedback,
    files,
    fine_tuning,
    guardrails,
    harness_runs,
    job_lifecycle,
    model_cards,
    models,
    moderations,
    uploads,
)
from gateway.api import cache as cache_api
from gateway.api import releases as releases_api
from gateway.api import studies as studies_api
from gateway.api.aliases import AliasService
from gateway.api.bias_reports import BiasReportService
from gateway.api.captures import CaptureService
from gateway.api.engines import FleetService
from gateway.api.eval_history import EvalHistoryService
from gateway.api.eval_runs import EvalRunService
from gateway.api.eval_schedules import EvalScheduleService
from gateway.api.evals import EvalService
from gateway.api.evaluated_models import EvaluatedModels
from gateway.api.feedback import FeedbackService
from gateway.api.files import FileService
from gateway.api.fine_tuning import FineTuningService
from gateway.api.guardrails import GuardrailService
from gateway.api.harness_runs import HarnessRunService
from gateway.api.job_creation import JobCreation
from gateway.api.job_lifecycle import JobLifecycle
from gateway.api.job_quota import JobQuota
from gateway.api.model_cards import ModelCardService
from gateway.api.models import ModelService
from gateway.api.moderations import ModerationService
from gateway.api.openapi import install_openapi
from gateway.api.operations import Exposition, Probes, create_operations_router
from gateway.api.releases import ReleaseService
from gateway.api.studies import StudyService
from gateway.api.uploads import UploadService
from gateway.auth.address import AddressGuard, create_edge_limiter
from gateway.auth.keys import Authenticator
from gateway.background import Background
from gateway.cache.answers import AnswerCache
from gateway.cache.claims import Claims
from gateway.cache.embedder import Embedder
from gateway.cache.questions import QuestionIndex
from gateway.cache.semantic import SemanticCache
from gateway.cache.single_flight import SingleFlight
from gateway.capture.feed import CaptureFeed
from gateway.capture.marks import AnswerMarks
from gateway.capture.retention import Retention
from gateway.capture.taking import CaptureTaker
from gateway.drain import Drain
from gateway.envelope import Envelope
from gateway.errors import install_error_handlers
from gateway.guardrails.guards import GuardBook
from gateway.job_watch import JobWatch
from gateway.limits.admission import AdmissionControl
from gateway.metrics import Metrics
from gateway.queueing.queue import EngineQueue
from gateway.redis_cluster import open_pipe
from gateway.relay.access_log import AccessLog
from gateway.relay.endpoint import DataPath, DataPathEndpoint
from gateway.relay.forward import Forwarder
from gateway.relay.generation import Generation
from gateway.relay.hedging import HedgedForwarder
from gateway.relay.record import Recorder
from gateway.relay.route import ROUTES
from gateway.relay.tracing import Tracing
from gateway.relay.trials import TrialCounts
from gateway.routing.acquaintances import Acquaintances
from gateway.routing.aliases import Aliases
from gateway.routing.demand import Demand
from gateway.routing.fallbacks import Fallbacks
from gateway.routing.fleet import Fleet
from gateway.routing.models import ModelDirectory
from gateway.routing.news import NewsListener
from gateway.routing.policies import POLICIES
from gateway.routing.shadow import Shadows
from gateway.routing.traffic import Traffic, read_routing_table
from store.aliases import AliasRepository
from store.artifacts import ArtifactStore
from store.captures import CaptureRepository
from store.database import Database
from store.demand import DemandStore
from store.eval_schedules import EvalScheduleRepository
from store.evals import EvalRepository
from store.feedback import FeedbackRepository
from store.files import FileRepository
from store.job_checkpoints import CheckpointRepository
from store.job_counts import JobCounts
from store.job_queue import JobQueue, create_celery
from store.job_results import JobResults
from store.job_usage import JobUsage
from store.jobs import JobRepository
from store.keys import KeyRepository
from store.leases import LeaseStore
from store.models import ModelRepository
from store.redis_clients import async_redis
from store.releases import ReleaseRepository
from store.uploads import UploadRepository
from telemetry.traces import configure_traces

SERVICE = "flywheel-gateway"
REDIS_TIMEOUT_S = 2.0
PIPE_TIMEOUT_S = 1.0
"""Requests wait for the pipe, but only until it is known that Redis is away."""
# The data path makes its own span a request, with the field's names; probes and scrapes would drown the rest.
UNTRACED_PATHS = frozenset({*(route.path for route in ROUTES), "/health/live", "/health/ready", "/metrics"})


def create_app(settings: Settings) -> FastAPI:
    tracer = configure_traces(SERVICE, settings.telemetry.otlp_endpoint)
    metrics = Metrics()
    access_log = AccessLog(sys.stderr.buffer, service=SERVICE)
    background, drain = Background(), Drain()
    database = Database(settings.database_url)
    redis = async_redis(settings.redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)
    pipe = open_pipe(settings.redis_url, timeout_s=PIPE_TIMEOUT_S)
    news_redis = async_redis(settings.redis_url, socket_connect_timeout=REDIS_TIMEOUT_S, health_check_interval=10)

    limiter = create_edge_limiter()
    key_rows = KeyRepository(database, settings.auth.pepper.get_secret_value())
    authenticator = Authenticator(
        key_rows,
        AddressGuard(limiter, failures_per_minute=settings.auth.failures_per_minute),
        key_cache_s=settings.auth.key_cache_s,
    )
    file_rows, model_rows, job_rows = FileRepository(database), ModelRepository(database), JobRepository(database)
    artifacts = ArtifactStore(settings.artifacts_url)
    file_service = FileService(file_rows, artifacts)
    upload_service = UploadService(
        UploadRepository(database), file_service, artifacts, max_upload_bytes=settings.gateway.max_upload_bytes
    )
    directory = ModelDirectory(model_rows)
    demand = Demand(DemandStore(redis), metrics)
    policy = POLICIES[settings.gateway.routing_policy]()
    acquaintances = Acquaintances(LeaseStore(redis), secrets.token_hex(8), settings.gateway.engines_known)
    fleet = Fleet(acquaintances, demand, settings.gateway, metrics, policy)
    queue = EngineQueue(fleet, settings.queue, metrics)
    cache = AnswerCache(pipe, redis, settings.cache, metrics)
    claims = Claims(pipe, news_redis, metrics)
    questions = QuestionIndex(pipe, most=settings.cache.semantic_questions)
    job_queue = JobQueue(create_celery(settings.broker_url))
    job_watch = JobWatch(job_rows)
    pepper = settings.auth.pepper.get_secret_value()
    marks, capture_rows = AnswerMarks(pepper), CaptureRepository(database)
    capture_feed = CaptureFeed(background, metrics, max_bytes=settings.capture.queue_bytes)
    retention = Retention(capture_rows, retention_days=settings.capture.retention_days)
    traffic = Traffic(read_routing_table(settings.gateway.routing_file))
    alias_rows, release_rows = AliasRepository(database), ReleaseRepository(database)
    aliases = Aliases(traffic, directory, alias_rows, metrics)
    trials = TrialCounts(redis, metrics)
    news = NewsListener(news_redis, authenticator, directory, aliases, fleet, cache.local, questions, job_watch)
    admission = AdmissionControl(pipe, settings.limits, metrics)
    forwarder = (HedgedForwarder if settings.gateway.hedging else Forwarder)(fleet, metrics)
    classifiers = TextClassifiers.load()
    data_path = DataPath(
        authenticator=authenticator,
        aliases=aliases,
        models=directory,
        cache=cache,
        admission=admission,
        semantic=SemanticCache(cache, questions, Embedder(forwarder), directory, settings.cache, metrics),
        flights=SingleFlight(cache, claims, background, metrics),
        generation=Generation(
            queue=queue,
            fallbacks=Fallbacks(traffic, directory, metrics),
            shadows=Shadows(traffic, fleet, background, metrics, trials),
            forwarder=forwarder,
            marks=marks,
            max_kept_bytes=cache.max_entry_bytes,
        ),
        guard_book=GuardBook(classifiers),
        captures=CaptureTaker(capture_feed, settings.capture),
        recorder=Recorder(metrics, access_log, trials),
        tracing=Tracing(tracer, exported=settings.telemetry.otlp_endpoint is not None),
        max_body_bytes=settings.gateway.max_body_bytes,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        cache_work = (cache.run(), claims.renew_forever(), claims.listen_forever())
        release_work = (aliases.run(), trials.run())
        for work in (
            *(
                directory.run(),
                fleet.run(),
                demand.run(),
                news.run(),
                admission.run(),
                retention.run(),
                upload_service.run(),
            ),
            *cache_work,
            *release_work,
        ):
            background.run_forever(work)
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through again, which takes up to 0.1 s
        yield
        capture_feed.close()
        await background.close()
        access_log.flush()
        fleet.close()
        await admission.flush()
        await trials.flush()
        await pipe.close()
        await redis.aclose()
        await news_redis.aclose()
        database.dispose()

    app = FastAPIOffline(
        redoc_url=None,
        title="Flywheel",
        version="0.1.0",
        description="Your own language models behind the OpenAI API, and the means to improve them.",
        lifespan=lifespan,
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "exclude": lambda scope: scope.get("path") in UNTRACED_PATHS,
        },
    )
    endpoints = {route.path: DataPathEndpoint(route, data_path) for route in ROUTES}
    app.router.routes[:0] = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
    app.state.data_path = {path: endpoint.handle for path, endpoint in endpoints.items()}
    app.state.drain = drain
    app.state.limiter = limiter
    app.state.authenticator = authenticator
    app.state.fleet_service = FleetService(fleet, queue)
    app.state.model_service = ModelService(directory, aliases, fleet, model_rows, alias_rows, artifacts, traffic, redis)
    app.state.alias_service = AliasService(alias_rows, aliases, directory, redis)
    app.state.release_service = ReleaseService(release_rows, alias_rows, file_rows, job_rows, aliases, directory, redis)
    app.state.guardrail_service = GuardrailService(key_rows, authenticator, redis)
    app.state.answer_cache = cache
    app.state.file_service = file_service
    creation = JobCreation(job_rows, job_queue, tracer, default_queue=settings.worker.default_queue)
    app.state.fine_tuning_service = FineTuningService(
        job_rows,
        file_rows,
        artifacts,
        directory,
        creation,
        JobQuota(JobUsage(database), settings.worker.artifact_quota_bytes),
    )
    app.state.job_watch = job_watch
    lifecycle = JobLifecycle(job_rows, CheckpointRepository(database), job_queue, job_watch, redis)
    app.state.job_lifecycle = lifecycle
    eval_rows = EvalRepository(database)
    evaluated = EvaluatedModels(aliases, settings.evaluation.endpoints)
    eval_service = EvalService(eval_rows, job_rows, artifacts, evaluated)
    app.state.eval_service = eval_service
    run_service = EvalRunService(eval_rows, eval_service, file_rows, artifacts, evaluated, creation, lifecycle)
    app.state.eval_run_service = run_service
    schedule_rows = EvalScheduleRepository(database)
    app.state.eval_schedule_service = EvalScheduleService(schedule_rows, eval_service, run_service)
    app.state.eval_history_service = EvalHistoryService(eval_rows, artifacts)
    app.state.harness_run_service = HarnessRunService(
        job_rows, JobResults(database), file_rows, artifacts, aliases, creation, lifecycle
    )
    app.state.model_card_service = ModelCardService(directory, database)
    app.state.bias_report_service = BiasReportService(
        job_rows, JobResults(database), artifacts, evaluated, creation, lifecycle
    )
    app.state.study_service = StudyService(
        job_rows,
        lifecycle,
        creation,
        file_rows,
        artifacts,
        directory,
        model_rows,
        redis,
    )
    app.state.capture_service = CaptureService(capture_rows, pepper)
    app.state.feedback_service = FeedbackService(FeedbackRepository(database), capture_rows, directory, marks)
    app.state.moderation_service = ModerationService(classifiers, admission, metrics)
    app.state.upload_service = upload_service
    of_models = (models, moderations, engines, cache_api, guardrails, aliases_api, releases_api, studies_api)
    of_data = (files, uploads, fine_tuning, job_lifecycle, captures, feedback)
    of_quality = (evals, eval_runs, eval_schedules, eval_history, harness_runs, bias_reports, model_cards)
    for resource in (*of_models, *of_data, *of_quality):
        app.include_router(resource.router)
    app.include_router(
        create_operations_router(
            limiter,
            settings.limits.edge_requests_per_minute,
            Probes(database, redis, fleet, drain),
            Exposition(metrics, JobCounts(database), schedule_rows),
        )
    )
    app.add_middleware(
        Envelope,
        max_body_bytes=settings.gateway.max_body_bytes,
        drain=drain,
        uploads={
            re.compile(re.escape(files.router.prefix)): settings.gateway.max_upload_bytes,
            uploads.PART_PATH: uploads.MAX_PART_BODY_BYTES,
        },
    )
    install_error_handlers(app)
    install_openapi(app)
    return app
