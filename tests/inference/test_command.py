"""vLLM's command line, from the catalogue and the settings."""

import json
import os
import struct
from pathlib import Path

from contracts.serving import ServingOptions, Speculation
from contracts.settings import EngineSettings, Settings, TelemetrySettings
from inference.catalogue import Catalogue, EngineOptions
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
    assert command.environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert command.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_an_engine_takes_a_thread_for_each_core_that_it_may_use():
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    try:
        command = build_command(TEXT, Path("/weights"), Settings(), "cpu")
    finally:
        os.sched_setaffinity(0, ours)

    assert command.environment["OMP_NUM_THREADS"] == "1"


def test_adapters_change_the_linear_layers_of_the_blocks_and_not_the_output(tmp_path: Path):
    shapes = {
        "model.embed_tokens.weight": [9, 4],
        "model.layers.0.input_layernorm.weight": [4],
        "model.layers.0.self_attn.q_proj.weight": [4, 4],
        "model.layers.0.self_attn.q_proj.bias": [4],
        "model.layers.1.mlp.down_proj.weight_packed": [4, 1],
        "model.layers.1.mlp.down_proj.weight_scale": [4, 1],
        "lm_head.weight": [9, 4],
    }
    header = {"__metadata__": {"format": "pt"}} | {name: {"shape": shape} for name, shape in shapes.items()}
    content = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content)

    arguments = build_command(TEXT, tmp_path, Settings(), "cpu").arguments
    begin = arguments.index("--lora-target-modules") + 1
    assert arguments[begin : begin + 2] == ("down_proj", "q_proj")
    assert begin + 2 == len(arguments) or arguments[begin + 2].startswith("--")
    assert "--lora-target-modules" not in build_command(TEXT, Path("/weights"), Settings(), "cpu").arguments


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


def test_an_engine_may_span_gpus_and_machines():
    large = TEXT.model_copy(update={"engine": EngineOptions(tensor_parallel_size=8, pipeline_parallel_size=2)})
    settings = Settings(engine=EngineSettings(machines=2, meeting_point="leader.group:29501"))
    agents, followers = (
        build_command(large, Path("/weights"), settings, "cuda", machine=machine).arguments for machine in (0, 1)
    )

    for machine, arguments in enumerate((agents, followers)):
        assert value_of(arguments, "--tensor-parallel-size") == "8"
        assert value_of(arguments, "--pipeline-parallel-size") == "2"
        assert value_of(arguments, "--nnodes") == "2"
        assert value_of(arguments, "--node-rank") == str(machine)
        assert value_of(arguments, "--master-addr") == "leader.group"
        assert value_of(arguments, "--master-port") == "29501"
    assert "--headless" in followers
    assert "--headless" not in agents
    assert "--nnodes" not in build_command(TEXT, Path("/weights"), Settings(), "cuda").arguments


def test_weights_that_say_how_they_are_served_are_served_so(tmp_path: Path):
    speculation = Speculation(method="ngram", tokens=5, longest_match=2)
    ServingOptions(adapters=False, compiled=True, kv_cache_dtype="fp8", speculation=speculation).write(tmp_path)
    arguments = build_command(TEXT, tmp_path, Settings(), "cpu").arguments
    assert "--enable-lora" not in arguments
    assert "--worker-extension-cls" not in arguments
    assert "--enforce-eager" not in arguments
    assert value_of(arguments, "--kv-cache-dtype") == "fp8"
    assert json.loads(value_of(arguments, "--speculative-config")) == {
        "method": "ngram",
        "num_speculative_tokens": 5,
        "prompt_lookup_max": 2,
    }


def test_a_draft_lies_inside_the_weights(tmp_path: Path):
    ServingOptions(speculation=Speculation(method="draft")).write(tmp_path)
    arguments = build_command(TEXT, tmp_path, Settings(), "cpu").arguments
    config = json.loads(value_of(arguments, "--speculative-config"))
    assert (config["method"], config["model"]) == ("draft_model", str(tmp_path / "draft"))
