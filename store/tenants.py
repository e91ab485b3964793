"""Tenants in SQL: the limits that all keys of a tenant share. A tenant without a row has none."""

from sqlalchemy import select

from contracts.limits import Limits, Tenant
from store.database import Database
from store.tables import TenantRow


class TenantRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def set_limits(self, tenant: str, limits: Limits) -> Tenant:
        """Replaces all limits of the tenant."""
        with self._database.session() as session:
            return to_tenant(session.merge(TenantRow(id=tenant, **limits.model_dump(include=set(Limits.model_fields)))))

    def all(self) -> list[Tenant]:
        with self._database.session() as session:
            return [to_tenant(row) for row in session.scalars(select(TenantRow).order_by(TenantRow.id))]


def to_tenant(row: TenantRow) -> Tenant:
    return Tenant.model_validate(row, from_attributes=True)
