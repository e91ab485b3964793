"""Wires the gateway. The only place that builds its parts."""

import gc
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from redis.asyncio import Redis
from starlette.routing import Route

from contracts.settings import Settings
from gateway.api import cache as cache_api
from gateway.api import engines, files, fine_tuning, models, uploads
from gateway.api.engines import FleetService
from gateway.api.files import FileService
from gateway.api.fine_tuning import FineTuningService
from gateway.api.models import ModelService
from gateway.api.openapi import install_openapi
from gateway.api.operations import Probes, create_operations_router
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
from gateway.envelope import Envelope
from gateway.errors import install_error_handlers
from gateway.limits.admission import AdmissionControl
from gateway.metrics import Metrics
from gateway.queueing.queue import EngineQueue
from gateway.redis_pipe import RedisPipe
from gateway.relay.access_log import AccessLog
from gateway.relay.endpoint import DataPath, DataPathEndpoint
from gateway.relay.forward import Forwarder
from gateway.relay.hedging import HedgedForwarder
from gateway.relay.record import Recorder
from gateway.relay.route import ROUTES
from gateway.relay.tracing import Tracing
from gateway.routing.fallbacks import Fallbacks
from gateway.routing.fleet import Fleet
from gateway.routing.models import ModelDirectory
from gateway.routing.news import NewsListener
from gateway.routing.policies import POLICIES
from gateway.routing.shadow import Shadows
from gateway.routing.traffic import Traffic, read_routing_table
from store.artifacts import ArtifactStore
from store.database import Database
from store.files import FileRepository
from store.job_queue import JobQueue, create_celery
from store.jobs import JobRepository
from store.keys import KeyRepository
from store.models import ModelRepository
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
    background = Background()
    database = Database(settings.database_url)
    redis = Redis.from_url(settings.redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)
    pipe = RedisPipe(settings.redis_url, timeout_s=PIPE_TIMEOUT_S)
    news_redis = Redis.from_url(settings.redis_url, socket_connect_timeout=REDIS_TIMEOUT_S, health_check_interval=10)

    limiter = create_edge_limiter()
    authenticator = Authenticator(
        KeyRepository(database, settings.auth.pepper.get_secret_value()),
        AddressGuard(limiter, failures_per_minute=settings.auth.failures_per_minute),
        key_cache_s=settings.auth.key_cache_s,
    )
    file_rows, model_rows = FileRepository(database), ModelRepository(database)
    artifacts = ArtifactStore(settings.artifacts_url)
    file_service = FileService(file_rows, artifacts)
    upload_service = UploadService(
        UploadRepository(database), file_service, artifacts, max_upload_bytes=settings.gateway.max_upload_bytes
    )
    directory = ModelDirectory(model_rows)
    fleet = Fleet(redis, settings.gateway, metrics, POLICIES[settings.gateway.routing_policy]())
    queue = EngineQueue(fleet, settings.queue, metrics)
    cache = AnswerCache(pipe, redis, settings.cache, metrics)
    claims = Claims(pipe, news_redis, metrics)
    questions = QuestionIndex(pipe, most=settings.cache.semantic_questions)
    news = NewsListener(news_redis, authenticator, directory, fleet, cache.local, questions)
    admission = AdmissionControl(pipe, settings.limits, metrics)
    traffic = Traffic(read_routing_table(settings.gateway.routing_file))
    forwarder = (HedgedForwarder if settings.gateway.hedging else Forwarder)(fleet, metrics)
    data_path = DataPath(
        authenticator=authenticator,
        models=directory,
        admission=admission,
        cache=cache,
        semantic=SemanticCache(cache, questions, Embedder(forwarder), directory, settings.cache, metrics),
        flights=SingleFlight(cache, claims, background, metrics),
        queue=queue,
        traffic=traffic,
        fallbacks=Fallbacks(traffic, directory, metrics),
        shadows=Shadows(traffic, fleet, background, metrics),
        forwarder=forwarder,
        recorder=Recorder(metrics, access_log),
        background=background,
        tracing=Tracing(tracer, exported=settings.telemetry.otlp_endpoint is not None),
        max_body_bytes=settings.gateway.max_body_bytes,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        cache_work = (cache.run(), claims.renew_forever(), claims.listen_forever())
        for work in (directory.run(), fleet.run(), news.run(), admission.run(), upload_service.run(), *cache_work):
            background.run_forever(work)
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through again, which takes up to 0.1 s
        yield
        await background.close()
        access_log.flush()
        fleet.close()
        await admission.flush()
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
    app.state.limiter = limiter
    app.state.authenticator = authenticator
    app.state.fleet_service = FleetService(fleet, queue)
    app.state.model_service = ModelService(directory, fleet, model_rows, redis)
    app.state.answer_cache = cache
    app.state.file_service = file_service
    app.state.fine_tuning_service = FineTuningService(
        JobRepository(database), file_rows, directory, JobQueue(create_celery(settings.redis_url)), tracer
    )
    app.state.upload_service = upload_service
    for resource in (models, files, uploads, fine_tuning, engines, cache_api):
        app.include_router(resource.router)
    app.include_router(
        create_operations_router(
            limiter, settings.limits.edge_requests_per_minute, Probes(database, redis, fleet), metrics
        )
    )
    app.add_middleware(
        Envelope,
        max_body_bytes=settings.gateway.max_body_bytes,
        uploads={
            re.compile(re.escape(files.router.prefix)): settings.gateway.max_upload_bytes,
            uploads.PART_PATH: uploads.MAX_PART_BODY_BYTES,
        },
    )
    install_error_handlers(app)
    install_openapi(app)
    return app
