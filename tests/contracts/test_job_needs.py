from contracts.fine_tuning import SupervisedSpec
from contracts.job_needs import JobNeeds, estimate_needs, in_words
from contracts.job_quota import over_quota

SMOLLM2_BYTES = 269_060_552


def needs(adaptation: str) -> JobNeeds:
    spec = SupervisedSpec.model_validate(
        {
            "base_model": "base",
            "training_file": "file-1",
            "training_file_digest": "sha256:x",
            "hyperparameters": {"adaptation": adaptation},
        }
    )
    return estimate_needs(spec, weights_bytes=SMOLLM2_BYTES)


def test_every_weight_needs_more_room_than_an_adapter() -> None:
    adapter, full = needs("lora"), needs("full")
    assert adapter.memory_bytes < full.memory_bytes
    assert 1e9 < adapter.memory_bytes < 2e9
    assert full.artifact_bytes > 10 * adapter.artifact_bytes
    # What a run of the real base was seen to store in a checkpoint (rank 16), and more than that.
    assert 58_000_000 < adapter.scratch_bytes < 250_000_000


def test_a_job_has_room_up_to_its_tenants_quota() -> None:
    wanted = JobNeeds(memory_bytes=0, scratch_bytes=0, artifact_bytes=100)
    assert over_quota(wanted, used_bytes=900, quota_bytes=1000) is None
    assert over_quota(wanted, used_bytes=10**9, quota_bytes=None) is None
    assert over_quota(None, used_bytes=999, quota_bytes=1000) is None
    assert "99 B are left" in (over_quota(wanted, used_bytes=901, quota_bytes=1000) or "")
    assert over_quota(None, used_bytes=1000, quota_bytes=1000) is not None


def test_sizes_are_told_in_words() -> None:
    assert [in_words(size) for size in (12, 5_000, 1_234_567, 2_500_000_000)] == ["12 B", "5 kB", "1 MB", "2.5 GB"]
