"""API keys in SQL. Only a keyed hash of a secret is stored; the secret is shown once, when it is made."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select

from contracts.guardrails import GuardrailPolicy
from contracts.identifiers import new_id
from contracts.keys import ApiKey, Scope
from contracts.limits import Limits
from store.database import Database
from store.tables import ApiKeyRow, TenantRow
from store.tenants import to_tenant

MIN_PEPPER_LETTERS = 32
SECRET_PREFIX = "sk-fw-"  # noqa: S105 (the public part of every key)


class PepperTooShort(ValueError):
    """The secret that keys the hashes could be guessed."""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made, with the only copy of its secret."""

    key: ApiKey
    secret: str


def hash_secret(secret: str, pepper: str) -> str:
    """HMAC-SHA256 (RFC 2104): without the pepper a stolen table does not let one test guesses."""
    return hmac.new(pepper.encode(), secret.encode(), hashlib.sha256).hexdigest()


def pepper_mark(pepper: str) -> str:
    """By which a pepper is known again, without telling it."""
    return hash_secret("pepper", pepper)[:16]


class KeyRepository:
    def __init__(self, database: Database, pepper: str) -> None:
        if len(pepper) < MIN_PEPPER_LETTERS:
            raise PepperTooShort(f"FLYWHEEL_AUTH__PEPPER must have at least {MIN_PEPPER_LETTERS} letters.")
        self._database = database
        self._pepper = pepper

    def create(
        self,
        *,
        tenant: str,
        name: str,
        scopes: Iterable[Scope],
        models: Iterable[str] | None = None,
        capture: float | None = None,
        expires_at: int | None = None,
        semantic_cache: bool = False,
        guardrails: GuardrailPolicy | None = None,
        **limits: float | None,
    ) -> NewApiKey:
        """A new key. `limits` are the fields of contracts.limits.Limits. Raises ValueError where they make no sense."""
        own = Limits.model_validate(limits, extra="forbid")
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        row = ApiKeyRow(
            id=new_id("key"),
            hash=hash_secret(secret, self._pepper),
            tenant=tenant,
            name=name,
            hint=f"{secret[:10]}…{secret[-4:]}",
            scopes=sorted(scopes),
            models=None if models is None else sorted(models),
            semantic_cache=semantic_cache,
            capture=capture,
            guardrails=_to_json(guardrails),
            **own.model_dump(),
            created_at=int(time.time()),
            expires_at=expires_at,
            revoked_at=None,
        )
        with self._database.session() as session:
            session.add(row)
        return NewApiKey(_to_key(row), secret)

    def find_by_secret(self, secret: str) -> ApiKey | None:
        """The key of a secret, also when it is expired or revoked; None if there never was one.

        The look-up is by hash over an index, so its time says nothing about how much of a guess was right.
        """
        with self._database.session() as session:
            query = select(ApiKeyRow, TenantRow).outerjoin(TenantRow, TenantRow.id == ApiKeyRow.tenant)
            found = session.execute(query.where(ApiKeyRow.hash == hash_secret(secret, self._pepper))).one_or_none()
            if found is None:
                return None
            row, tenant = found
            key = _to_key(row)
            return key if tenant is None else key.model_copy(update={"tenant_limits": to_tenant(tenant)})

    def get(self, key_id: str) -> ApiKey | None:
        """Without its tenant's limits."""
        with self._database.session() as session:
            row = session.get(ApiKeyRow, key_id)
            return None if row is None else _to_key(row)

    def delete_named(self, name: str, *, tenant: str) -> None:
        """For keys that were made for one purpose only; those of people are revoked, and stay."""
        with self._database.session() as session:
            session.execute(delete(ApiKeyRow).where(ApiKeyRow.name == name, ApiKeyRow.tenant == tenant))

    def all(self) -> list[ApiKey]:
        with self._database.session() as session:
            return [_to_key(row) for row in session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at))]

    def set_capture(self, key_id: str, share: float | None) -> ApiKey | None:
        """Captures this share of the key's traffic from now on; None captures nothing. None if there is no such key."""
        with self._database.session() as session:
            row = session.get(ApiKeyRow, key_id)
            if row is None:
                return None
            row.capture = share
            return _to_key(row)

    def set_guardrails(self, key_id: str, policy: GuardrailPolicy | None) -> ApiKey | None:
        """The key keeps to this policy from now on; None takes the old one away. None if there is no such key.

        The policy is one that `contracts.guardrails.checking` has let pass.
        """
        with self._database.session() as session:
            row = session.get(ApiKeyRow, key_id)
            if row is None:
                return None
            row.guardrails = _to_json(policy)
            return _to_key(row)

    def revoke(self, key_id: str) -> ApiKey | None:
        """Revokes for good. A second time changes nothing. None if there is no such key."""
        with self._database.session() as session:
            row = session.get(ApiKeyRow, key_id)
            if row is None:
                return None
            if row.revoked_at is None:
                row.revoked_at = int(time.time())
            return _to_key(row)


def _to_json(policy: GuardrailPolicy | None) -> dict[str, Any] | None:
    return None if policy is None else policy.model_dump(mode="json", exclude_defaults=True)


def _to_key(row: ApiKeyRow) -> ApiKey:
    return ApiKey.model_validate(row, from_attributes=True)
