"""`flywheel up` where it fails early: it says which step, why and what to do, and leaves nothing behind."""

import socket
from pathlib import Path

import pytest

from cli.home import PEPPER as PEPPER_SETTING
from cli.home import Home, environment_python
from cli.supervisor.preparation import prepare_database
from inference.catalogue import Catalogue
from store.database import Database
from store.keys import KeyRepository
from store.models import ModelRepository
from tests.cli.conftest import Flywheel
from tests.cli.tiny import processes_of
from tests.gateway_process import PEPPER

installed = pytest.mark.skipif(
    not all(environment_python(service).exists() for service in ("gateway", "engine", "worker")),
    reason="needs the services' environments: `make test` makes them",
)


@installed
def test_a_failed_step_is_reported_and_everything_is_stopped(flywheel: Flywheel, tmp_path: Path) -> None:
    done = flywheel("up", "--port", "0", FLYWHEEL_ENGINE__CATALOGUE="/no/such/file.yaml")
    assert done.returncode == 1
    assert "error: database failed." in done.stderr
    assert "/no/such/file.yaml: No such file" in done.stderr
    assert "unset FLYWHEEL_ENGINE__CATALOGUE" in done.stderr
    assert "restarting" not in done.stdout
    assert processes_of(tmp_path) == []
    assert not (tmp_path / "local.json").exists()


@installed
def test_a_database_that_cannot_be_opened_is_named(flywheel: Flywheel, tmp_path: Path) -> None:
    done = flywheel("up", "--port", "0", FLYWHEEL_DATABASE_URL="sqlite:////proc/none/flywheel.db")
    assert (done.returncode, "/proc/none" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert processes_of(tmp_path) == []


@installed
def test_a_taken_port_is_refused_before_anything_starts(flywheel: Flywheel, tmp_path: Path) -> None:
    with socket.socket() as program:
        program.bind(("127.0.0.1", 0))
        program.listen()
        port = program.getsockname()[1]
        done = flywheel("up", "--port", str(port))
    assert (done.returncode, f"Port {port} is taken" in done.stderr) == (1, True)
    assert processes_of(tmp_path) == []


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    made = Home(tmp_path).secrets()
    assert len(made[PEPPER_SETTING]) >= 32
    assert Home(tmp_path).secrets() == made
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o600
    assert Home(tmp_path / "other").secrets() != made


def test_each_start_makes_a_fresh_key_and_revokes_the_one_before(database: Database) -> None:
    catalogue, keys = Catalogue.load(None), KeyRepository(database, PEPPER)
    by_hand = keys.create(tenant="local", name="mine", scopes=["inference"])
    first, second = (prepare_database(database, PEPPER, catalogue) for _ in range(2))
    revoked = {
        secret: (key := keys.find_by_secret(secret)) and key.revoked_at is not None for secret in (first, second)
    }
    assert revoked == {first: True, second: False}
    mine = keys.find_by_secret(by_hand.secret)
    assert mine is not None
    assert mine.revoked_at is None


def test_models_on_demand_are_registered_and_a_card_with_weights_is_kept(database: Database) -> None:
    models, catalogue = ModelRepository(database), Catalogue.load(None)
    prepare_database(database, PEPPER, catalogue)
    assert {card.name for card in models.all()} == {model.name for model in catalogue.models if model.on_demand}
    card = models.all()[0].model_copy(update={"weights": "/weights", "digest": "sha256:1"})
    models.put(card)
    prepare_database(database, PEPPER, catalogue)
    assert models.get(card.name) == card
