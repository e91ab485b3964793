"""vLLM's command line and environment for a model of the catalogue (docs.vllm.ai, "Engine Arguments")."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contracts.engine import EngineTask
from contracts.serving import DRAFT_FOLDER, ServingOptions
from contracts.settings import Settings
from inference.adapter_layers import adapter_layers
from inference.catalogue import CatalogueModel, EngineOptions
from inference.precision import pick_dtype

Device = Literal["cpu", "cuda"]
GIB = 1 << 30
LONGEST_MATCH = 4
PROGRAMS: Mapping[EngineTask, str] = {"token_classify": "inference.runners.token_classification"}
"""What serves the tasks that vLLM cannot."""


def find_device() -> Device:
    """The device that this machine's build of vLLM runs on."""
    return "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


@dataclass(frozen=True, slots=True)
class EngineCommand:
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def build_command(
    model: CatalogueModel, weights: Path, settings: Settings, device: Device, *, machine: int = 0
) -> EngineCommand:
    """Continuous batching, the paged KV cache and prefix caching are vLLM's; LoRA adapters come and go at run time.

    Of an engine that spans machines only `machine` 0 answers requests. Raises ServingFileInvalid.
    """
    program = [PROGRAMS.get(model.task, "vllm.entrypoints.openai.api_server")]
    if machine > 0:
        program = ["vllm.entrypoints.cli.main", "serve", "--headless"]
    arguments = [
        *(sys.executable, "-m", *program),
        *("--model", str(weights)),
        *("--served-model-name", model.name),
        *("--host", settings.engine.host),
        *("--port", str(settings.engine.port)),
        *("--max-model-len", str(model.context_length)),
        *("--max-num-seqs", str(model.engine.max_num_seqs)),
    ]
    if model.task not in PROGRAMS:
        arguments += _vllm_arguments(model, weights, settings, device)
        arguments += _parallel_arguments(model, settings, machine)
    return EngineCommand(tuple(arguments), _environment(settings, device))


def _vllm_arguments(model: CatalogueModel, weights: Path, settings: Settings, device: Device) -> list[str]:
    options, own = model.engine, ServingOptions.read(weights)
    arguments = ["--dtype", pick_dtype(options, weights, device), "--disable-uvicorn-access-log"]
    if options.enforce_eager if own.compiled is None else not own.compiled:
        arguments.append("--enforce-eager")
    if model.task != "generate":
        arguments += ["--runner", "pooling"]
        if model.task == "embed" and options.pooling is not None:
            arguments += ["--pooler-config", json.dumps({"seq_pooling_type": options.pooling})]
    else:
        arguments += [
            "--enable-prefix-caching",
            *("--generation-config", "vllm"),  # sampling defaults come from the catalogue, not from the model's files
            *("--override-generation-config", json.dumps(model.default_sampling)),
        ]
        arguments += _adapter_arguments(options, weights, device) if own.adapters else []
        arguments += _serving_arguments(own, weights)
    if device == "cuda":
        arguments += ["--gpu-memory-utilization", str(options.gpu_memory_utilization)]
    else:
        arguments += ["--kv-cache-memory-bytes", str(int(settings.engine.kv_cache_gib * GIB))]
    if settings.telemetry.otlp_endpoint is not None:
        arguments += ["--otlp-traces-endpoint", f"{settings.telemetry.otlp_endpoint.rstrip('/')}/v1/traces"]
    return arguments


def _adapter_arguments(options: EngineOptions, weights: Path, device: Device) -> list[str]:
    arguments = [
        "--enable-lora",
        *("--max-loras", str(options.max_loras)),
        *("--max-cpu-loras", str(options.max_cpu_loras)),
        *("--max-lora-rank", str(options.max_lora_rank)),
    ]
    # Left to itself vLLM prepares the output layer for adapters too. None of ours changes it, it costs time with
    # every token, and vLLM 0.32 ends there when an evaluation's `prompt_logprobs` meet other requests: "einsum():
    # subscript b has size 7 for operand 1 which does not broadcast with previously seen size 51".
    if layers := adapter_layers(weights):
        arguments += ["--lora-target-modules", *layers]
    if device == "cpu":
        arguments += ["--worker-extension-cls", "inference.cpu_adapters.AdaptersByRuns"]
    return arguments


def _serving_arguments(options: ServingOptions, weights: Path) -> list[str]:
    """What the weights ask for themselves."""
    arguments = []
    if options.kv_cache_dtype is not None:
        arguments += ["--kv-cache-dtype", options.kv_cache_dtype]
    if (speculation := options.speculation) is not None:
        config: dict[str, str | int] = {"num_speculative_tokens": speculation.tokens}
        if speculation.method == "ngram":
            config |= {"method": "ngram", "prompt_lookup_max": speculation.longest_match or LONGEST_MATCH}
        else:
            config |= {"method": "draft_model", "model": str(weights / DRAFT_FOLDER)}
        arguments += ["--speculative-config", json.dumps(config)]
    return arguments


def _parallel_arguments(model: CatalogueModel, settings: Settings, machine: int) -> list[str]:
    """GPUs that share a model, on one machine or several (docs.vllm.ai, "Parallelism and Scaling")."""
    arguments = []
    if model.engine.tensor_parallel_size > 1:
        arguments += ["--tensor-parallel-size", str(model.engine.tensor_parallel_size)]
    if model.engine.pipeline_parallel_size > 1:
        arguments += ["--pipeline-parallel-size", str(model.engine.pipeline_parallel_size)]
    if settings.engine.machines > 1:
        host, _, port = settings.engine.meeting_point.rpartition(":")
        arguments += ["--nnodes", str(settings.engine.machines), "--node-rank", str(machine)]
        arguments += ["--master-addr", host, "--master-port", port]
    return arguments


def _environment(settings: Settings, device: Device) -> dict[str, str]:
    environment = {
        # vLLM needs none of our settings, and they hold secrets.
        **{name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")},
        "HF_HUB_OFFLINE": "1",  # the weights are here already
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "OTEL_SERVICE_NAME": "flywheel-engine",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    environment.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would win over our option, and knows whole GiB only
    if device == "cpu":
        threads = settings.engine.cpu_threads or len(os.sched_getaffinity(0))
        environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
        # Who waits by spinning keeps a core from the one that is waited for, as soon as anything else runs. vLLM's
        # scheduler and its worker wait for each other so, unless one process is both: docs/performance.md, "Engines
        # on a shared CPU".
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    return environment
