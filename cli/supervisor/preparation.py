"""What is done to a local stack's database before its services start."""

import time

from contracts.keys import ALL_SCOPES
from contracts.models import ModelCard
from inference.catalogue import Catalogue
from store.database import Database
from store.keys import KeyRepository
from store.models import ModelRepository

LOCAL_TENANT, LOCAL_KEY_NAME = "local", "make up"


def prepare_database(database: Database, pepper: str, catalogue: Catalogue) -> str:
    """Brings the schema up to date, registers models that engines start for on demand, and returns a fresh API key.

    The key of the run before is revoked. Raises SQLAlchemyError, alembic's CommandError, ValueError.
    """
    database.migrate()
    _register_on_demand_models(ModelRepository(database), catalogue)
    return _renew_local_key(KeyRepository(database, pepper))


def _register_on_demand_models(models: ModelRepository, catalogue: Catalogue) -> None:
    for model in catalogue.models:
        if not model.on_demand or models.get(model.name) is not None:
            continue
        models.put(
            ModelCard(
                name=model.name,
                kind="base",
                task=model.task,
                weights="",  # the agent fills in these two when it has the weights
                digest="",
                licence=model.licence,
                context_length=model.context_length,
                input_price=model.input_price,
                output_price=model.output_price,
                on_demand=True,
                created_at=int(time.time()),
            )
        )


def _renew_local_key(keys: KeyRepository) -> str:
    for key in keys.all():
        if key.tenant == LOCAL_TENANT and key.name == LOCAL_KEY_NAME and key.revoked_at is None:
            keys.revoke(key.id)
    return keys.create(tenant=LOCAL_TENANT, name=LOCAL_KEY_NAME, scopes=ALL_SCOPES).secret
