"""How much of the artifact store a tenant's jobs take up."""

from sqlalchemy import func, select

from store.database import Database
from store.tables import JobCheckpointRow, JobRow, ModelRow


class JobUsage:
    """Counted in SQL, so that asking costs two small queries and not a walk through the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def artifact_bytes(self, tenant: str) -> int:
        """States of trainings, and models that are still registered."""
        states = (
            select(func.coalesce(func.sum(JobCheckpointRow.bytes), 0))
            .join(JobRow, JobRow.id == JobCheckpointRow.job)
            .where(JobRow.tenant == tenant, JobCheckpointRow.artifact.is_not(None))
        )
        models = (
            select(func.coalesce(func.sum(JobRow.artifact_bytes), 0))
            .join(ModelRow, ModelRow.name == JobRow.result_model)
            .where(JobRow.tenant == tenant)
        )
        with self._database.session() as session:
            return int(session.scalar(states) or 0) + int(session.scalar(models) or 0)
