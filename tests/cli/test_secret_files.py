"""A container's command line works with the secrets that are mounted there, as the services beside it do."""

from pathlib import Path

import pytest

from cli import local_stack
from cli.home import PEPPER, Home
from contracts.settings import Settings

DATABASE = "FLYWHEEL_DATABASE_URL"


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, value in ((PEPPER, "p" * 40), (DATABASE, "postgresql+psycopg://elsewhere/flywheel")):
        (folder / name).write_text(value)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(local_stack, "SECRETS_DIR", folder)
    monkeypatch.setitem(Settings.model_config, "secrets_dir", folder)
    return folder


def test_mounted_secrets_are_used_and_none_is_made(mounted: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    settings = local_stack.stack_settings(home)
    assert settings.auth.pepper.get_secret_value() == "p" * 40
    assert settings.database_url == "postgresql+psycopg://elsewhere/flywheel"
    assert settings.artifacts_url == f"file://{home.folder}/artifacts"
    assert not (home.folder / "secrets").exists()


def test_the_environment_says_more_than_a_mounted_secret(
    mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE, "sqlite:///mine.db")
    assert local_stack.stack_settings(Home(tmp_path / "home")).database_url == "sqlite:///mine.db"


def test_without_mounted_secrets_the_home_keeps_its_own(mounted: Path, tmp_path: Path) -> None:
    for file in mounted.iterdir():
        file.unlink()
    home = Home(tmp_path / "home")
    settings = local_stack.stack_settings(home)
    assert settings.auth.pepper.get_secret_value() == home.secrets()[PEPPER]
    assert settings.database_url == f"sqlite:///{home.folder}/flywheel.db"
