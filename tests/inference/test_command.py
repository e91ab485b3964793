"""vLLM's command line, from the catalogue and the settings."""

import json
from pathlib import Path

from contracts.settings import EngineSettings, Settings, TelemetrySettings
from inference.catalogue import Catalogue
from inference.command import build_command

TEXT = Catalogue.load(None).require("smollm2-135m-instruct")
EMBEDDINGS = Catalogue.load(None).require("all-minilm-l6-v2")


def value_of(arguments: tuple[str, ...], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_a_text_engine_caches_prefixes_and_takes_adapters(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "8")
    settings = Settings(engine=EngineSettings(port=9001, cpu_threads=3, kv_cache_gib=0.5))
    command = build_command(TEXT, Path("/weights"), settings, "cpu")

    assert value_of(command.arguments, "--model") == "/weights"
    assert value_of(command.arguments, "--served-model-name") == TEXT.name
    assert value_of(command.arguments, "--port") == "9001"
    assert json.loads(value_of(command.arguments, "--override-generation-config"))["temperature"] == 0.2
    assert {"--enable-prefix-caching", "--enable-lora"} <= set(command.arguments)
    assert command.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert value_of(command.arguments, "--kv-cache-memory-bytes") == str(1 << 29)
    assert "VLLM_CPU_KVCACHE_SPACE" not in command.environment
    assert command.environment["OMP_NUM_THREADS"] == "3"


def test_an_embedding_engine_pools_and_takes_no_adapters():
    arguments = build_command(EMBEDDINGS, Path("/weights"), Settings(), "cpu").arguments

    assert value_of(arguments, "--runner") == "pooling"
    assert "--enable-lora" not in arguments


def test_pooling_is_told_to_embedding_engines_only():
    tuned = EMBEDDINGS.model_copy(update={"task": "classify"})

    embeds = build_command(EMBEDDINGS, Path("/weights"), Settings(), "cpu").arguments
    assert json.loads(value_of(embeds, "--pooler-config")) == {"seq_pooling_type": "MEAN"}
    classifies = build_command(tuned, Path("/weights"), Settings(), "cpu").arguments
    assert value_of(classifies, "--runner") == "pooling"
    assert "--pooler-config" not in classifies


def test_token_classifiers_are_served_by_our_own_runner():
    model = EMBEDDINGS.model_copy(update={"task": "token_classify", "name": "ft:names"})
    arguments = build_command(model, Path("/weights"), Settings(engine=EngineSettings(port=9001)), "cpu").arguments

    assert value_of(arguments, "-m") == "inference.runners.token_classification"
    assert (value_of(arguments, "--model"), value_of(arguments, "--served-model-name")) == ("/weights", "ft:names")
    assert (value_of(arguments, "--port"), value_of(arguments, "--max-model-len")) == ("9001", "256")
    assert "--dtype" not in arguments


def test_a_gpu_engine_has_no_settings_for_cpus():
    command = build_command(TEXT, Path("/weights"), Settings(), "cuda")

    assert value_of(command.arguments, "--gpu-memory-utilization") == "0.9"
    assert "--kv-cache-memory-bytes" not in command.arguments


def test_traces_go_where_the_settings_say():
    settings = Settings(telemetry=TelemetrySettings(otlp_endpoint="http://collector:4318/"))
    command = build_command(TEXT, Path("/weights"), settings, "cpu")

    assert value_of(command.arguments, "--otlp-traces-endpoint") == "http://collector:4318/v1/traces"
    assert command.environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert "--otlp-traces-endpoint" not in build_command(TEXT, Path("/w"), Settings(), "cpu").arguments
