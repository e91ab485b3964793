import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from contracts.settings import Settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLYWHEEL_")]:
        monkeypatch.delenv(name)


def fields(section: type[BaseModel] = Settings, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


@pytest.mark.parametrize(("name", "field"), list(fields()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_setting_is_described(name: str, field: FieldInfo) -> None:
    assert field.description


def test_the_environment_wins_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_LIMITS__REQUESTS_PER_MINUTE", "7")
    monkeypatch.setenv("FLYWHEEL_REDIS_URL", "redis://elsewhere:1/0")
    settings = Settings()
    assert settings.limits.requests_per_minute == 7
    assert settings.limits.tokens_per_minute == Settings.model_fields["limits"].default.tokens_per_minute
    assert settings.redis_url == "redis://elsewhere:1/0"


def test_jobs_need_a_redis_of_one_server_beside_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_REDIS_URL", "redis+cluster://a:1,b:2")
    with pytest.raises(ValidationError, match="FLYWHEEL_JOBS_REDIS_URL"):
        Settings()
    monkeypatch.setenv("FLYWHEEL_JOBS_REDIS_URL", "redis://jobs:1/0")
    assert Settings().broker_url == "redis://jobs:1/0"


def test_one_redis_carries_jobs_too() -> None:
    assert Settings(redis_url="redis://host:1/0").broker_url == "redis://host:1/0"


def test_a_fault_of_the_settings_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_REDIS_URL", "redis+cluster://:hunter2@a:1")
    pepper = "abcdefgh" * 5
    monkeypatch.setenv("FLYWHEEL_AUTH__PEPPER", pepper)
    with pytest.raises(ValidationError) as raised:
        Settings()
    for secret in ("hunter2", "abcdefgh"):
        assert secret not in str(raised.value)


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://a:1,", "redis+cluster://a:1/3"])
def test_a_clusters_url_without_a_server_or_with_a_database_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="FLYWHEEL_REDIS_URL"):
        Settings(redis_url=url, jobs_redis_url="redis://jobs:1/0")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_TELEMETRY__OTLP_ENDPOINT", "")
    assert Settings().telemetry.otlp_endpoint is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLYWHEEL_LIMITS__REQUESTS_PER_MINUTE", "0"),
        ("FLYWHEEL_GATEWAY__PORT", "http"),
        ("FLYWHEEL_GATEWAY__PROT", "8000"),
        ("FLYWHEEL_ENGINE__LEASE_TTL_S", "-1"),
    ],
)
def test_a_wrong_or_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_secret_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_AUTH__PEPPER", "the pepper of this stack")
    assert "the pepper of this stack" not in repr(Settings())


def test_secrets_may_be_in_files_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "FLYWHEEL_AUTH__PEPPER").write_text("from a file\n")
    (tmp_path / "FLYWHEEL_REDIS_URL").write_text("redis://from-a-file/0")
    monkeypatch.setenv("FLYWHEEL_REDIS_URL", "redis://from-the-environment/0")
    monkeypatch.setenv("FLYWHEEL_AUTH__KEY_CACHE_S", "7")
    settings = Settings(_secrets_dir=tmp_path)
    assert settings.auth.pepper.get_secret_value() == "from a file"
    assert settings.auth.key_cache_s == 7
    assert settings.redis_url == "redis://from-the-environment/0"
