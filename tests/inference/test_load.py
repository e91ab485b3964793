"""What is read of vLLM's metrics."""

from inference.load import parse_load

METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 200.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 50.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="128",cache_dtype="auto",engine="0",num_gpu_blocks="364"} 1.0
"""


def test_the_caches_size_is_known_in_tokens():
    load = parse_load(METRICS)

    assert (load.running, load.waiting, load.kv_cache_usage) == (3, 2, 0.25)
    assert load.kv_cache_tokens == 128 * 364


def test_the_prefix_caches_hits_are_counted_in_tokens():
    load = parse_load(METRICS)

    assert (load.prefix_queries, load.prefix_hits) == (200, 50)


def test_a_size_that_vllm_does_not_tell_is_unknown():
    assert parse_load(METRICS.replace('"364"', '"None"')).kv_cache_tokens == 0
    assert parse_load("").kv_cache_tokens == 0
