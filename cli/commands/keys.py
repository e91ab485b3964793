"""`flywheel keys`: makes, lists and revokes API keys, in the database that the gateways read.

SQLAlchemy is imported only where a command needs it, because its import takes longer than most commands.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.durations import seconds_of
from cli.errors import CliError
from cli.home import Home
from cli.limits import (
    Concurrency,
    MoneyPerDay,
    MoneyPerMonth,
    Rpm,
    TokensPerDay,
    TokensPerMonth,
    Tpm,
    describe_limits,
)
from cli.local_stack import stack_settings
from cli.tables import make_table, print_table
from contracts.invalidation import Invalidation
from contracts.keys import ALL_SCOPES, ApiKey, Scope
from contracts.settings import Settings

app = typer.Typer(help="Make, list, capture, guard and revoke API keys.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    tenant: Annotated[str, typer.Option(help="Whose key it is; tenants see nothing of each other.")] = "local",
    scope: Annotated[
        list[str] | None, typer.Option(help="inference, jobs or admin; repeat for several; all by default.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it may use; repeat for several; all by default.")
    ] = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    budget_tokens_day: TokensPerDay = None,
    budget_tokens_month: TokensPerMonth = None,
    budget_money_day: MoneyPerDay = None,
    budget_money_month: MoneyPerMonth = None,
    capture: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of its answers that is captured, for example 0.1.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option(help="For example 30m, 12h or 90d.")] = None,
    semantic_cache: Annotated[
        bool, typer.Option("--semantic-cache", help="Repeats may get the kept answer to a similar question.")
    ] = False,
) -> None:
    """Make a key. Its secret is shown once, now."""
    expires_at = None if expires_in is None else int(time.time()) + seconds_of(expires_in)
    from cli.key_store import open_keys

    with open_keys(_settings()) as keys:
        made = keys.create(
            tenant=tenant,
            name=name,
            scopes=_scopes(scope),
            models=model or None,
            capture=capture or None,
            expires_at=expires_at,
            semantic_cache=semantic_cache,
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
            concurrency=concurrency,
            tokens_per_day=budget_tokens_day,
            tokens_per_month=budget_tokens_month,
            money_per_day=budget_money_day,
            money_per_month=budget_money_month,
        )
    typer.echo(made.secret)
    typer.echo(f"{made.key.id}: keep the secret, it is not shown again.", err=True)


@app.command("list")
def list_keys() -> None:
    """List all keys, without their secrets."""
    from cli.key_store import open_keys

    with open_keys(_settings()) as keys:
        known = keys.all()
    table = make_table("id", "name", "tenant", "key", "scopes", "models", "limits", "cache", "capture", "state")
    for key in known:
        models = "all" if key.models is None else " ".join(sorted(key.models))
        scopes, limits = " ".join(sorted(key.scopes)), describe_limits(key) or "default"
        cache = "semantic" if key.semantic_cache else "exact"
        capture = "none" if key.capture is None else f"{key.capture:.4g}"
        table.add_row(key.id, key.name, key.tenant, key.hint, scopes, models, limits, cache, capture, _state(key))
    print_table(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, from `flywheel keys list`.")]) -> None:
    """Revoke a key for good. Gateways refuse it within a second."""
    from cli.key_store import open_keys, publish

    settings = _settings()
    with open_keys(settings) as keys:
        revoked = keys.revoke(key_id)
    if revoked is None:
        raise CliError(f"There is no key `{key_id}`.", advice="`flywheel keys list` shows the ids.")
    heard = publish(settings, Invalidation(kind="key", id=key_id))
    typer.echo(f"{key_id} is revoked.")
    if not heard:
        typer.echo(f"  Redis is not reached; gateways notice within {settings.auth.key_cache_s:.0f} s.", err=True)


@app.command("capture")
def set_capture(
    key_id: Annotated[str, typer.Argument(help="The key's id, from `flywheel keys list`.")],
    share: Annotated[float, typer.Argument(min=0, max=1, help="Share of its answers; 0 for none.")],
) -> None:
    """Capture a share of a key's answers from now on, or none. What was captured stays until it is erased."""
    from cli.key_store import open_keys, publish

    settings = _settings()
    with open_keys(settings) as keys:
        changed = keys.set_capture(key_id, share or None)
    if changed is None:
        raise CliError(f"There is no key `{key_id}`.", advice="`flywheel keys list` shows the ids.")
    heard = publish(settings, Invalidation(kind="key", id=key_id))
    typer.echo(f"{key_id}: {share:.4g} of its answers is captured." if share else f"{key_id}: nothing is captured.")
    if not heard:
        typer.echo(f"  Redis is not reached; gateways notice within {settings.auth.key_cache_s:.0f} s.", err=True)


@app.command("guard")
def guard(
    key_id: Annotated[str, typer.Argument(help="The key's id, from `flywheel keys list`.")],
    policy: Annotated[Path | None, typer.Option(help="A YAML or JSON file, as examples/guardrails.yaml.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take the key's guardrails away.")] = False,
) -> None:
    """Set, show or clear what a key's requests and answers must keep to; without an option they are shown."""
    if policy is not None and clear:
        raise CliError("Choose one of --policy and --clear.")
    from cli.guardrails import read_policy, written
    from cli.key_store import open_keys, publish

    wanted = None if policy is None else read_policy(policy)
    shown_only = policy is None and not clear
    settings = _settings()
    with open_keys(settings) as keys:
        key = keys.get(key_id) if shown_only else keys.set_guardrails(key_id, wanted)
    if key is None:
        raise CliError(f"There is no key `{key_id}`.", advice="`flywheel keys list` shows the ids.")
    if shown_only:
        typer.echo("none" if key.guardrails is None else written(key.guardrails), nl=key.guardrails is None)
        return
    heard = publish(settings, Invalidation(kind="key", id=key_id))
    typer.echo(f"{key_id}: the guardrails are {'cleared' if clear else 'set'}.")
    if not heard:
        typer.echo(f"  Redis is not reached; gateways notice within {settings.auth.key_cache_s:.0f} s.", err=True)


def _settings() -> Settings:
    return stack_settings(Home.find())


def _scopes(wanted: list[str] | None) -> list[Scope]:
    if unknown := [scope for scope in wanted or () if scope not in ALL_SCOPES]:
        raise CliError(f"There is no scope `{unknown[0]}`.", advice=f"Choose from {', '.join(ALL_SCOPES)}.")
    return [scope for scope in ALL_SCOPES if not wanted or scope in wanted]


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "active"
    until = datetime.fromtimestamp(key.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"until {until}" if key.expires_at > time.time() else "expired"
