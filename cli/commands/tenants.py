"""`flywheel tenants`: the limits that all keys of a tenant share, and the end of what is kept of it."""

from typing import Annotated

import typer

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
from contracts.limits import Limits

app = typer.Typer(help="Set and list what all keys of a tenant may use together; erase a tenant.", no_args_is_help=True)


@app.command("set")
def set_limits(
    tenant: str,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    budget_tokens_day: TokensPerDay = None,
    budget_tokens_month: TokensPerMonth = None,
    budget_money_day: MoneyPerDay = None,
    budget_money_month: MoneyPerMonth = None,
) -> None:
    """Replace the limits of a tenant with these; what is not named has none."""
    from cli.key_store import open_tenants, publish

    settings = stack_settings(Home.find())
    limits = Limits(
        requests_per_minute=rpm,
        tokens_per_minute=tpm,
        concurrency=concurrency,
        tokens_per_day=budget_tokens_day,
        tokens_per_month=budget_tokens_month,
        money_per_day=budget_money_day,
        money_per_month=budget_money_month,
    )
    with open_tenants(settings) as tenants:
        tenants.set_limits(tenant, limits)
    heard = publish(settings, Invalidation(kind="tenant", id=tenant))
    typer.echo(f"{tenant}: {describe_limits(limits) or 'no limits'}.")
    if not heard:
        typer.echo(f"  Redis is not reached; gateways notice within {settings.auth.key_cache_s:.0f} s.", err=True)


@app.command("list")
def list_tenants() -> None:
    """List the tenants that have limits."""
    from cli.key_store import open_tenants

    with open_tenants(stack_settings(Home.find())) as tenants:
        known = tenants.all()
    table = make_table("tenant", "limits")
    for tenant in known:
        table.add_row(tenant.id, describe_limits(tenant) or "none")
    print_table(table)


@app.command("erase")
def erase(
    tenant: str,
    user: Annotated[
        str | None, typer.Option(help="Only what is kept of requests with this `user`, and the tenant's kept answers.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase all that is kept of a tenant, its keys and models included, or of one of its users. Tells what is left."""
    from redis.exceptions import RedisError

    from cli.key_store import open_database
    from store.artifacts import ArtifactStore
    from store.erasure.tenant import Erasure
    from store.redis_clients import blocking_redis

    settings = stack_settings(Home.find())
    what = f"all that is kept of the tenant `{tenant}`" if user is None else f"what is kept of `{user}` at `{tenant}`"
    if not yes:
        typer.confirm(f"Erase {what}, for good?", abort=True)
    artifacts, pepper = ArtifactStore(settings.artifacts_url), settings.auth.pepper.get_secret_value()
    with open_database(settings) as database:
        try:
            with blocking_redis(settings.redis_url, socket_connect_timeout=2, socket_timeout=10) as redis:
                erasure = Erasure(database, artifacts, redis, pepper=pepper)
                report = erasure.tenant(tenant) if user is None else erasure.user(user, tenant)
        except RedisError as error:
            message = f"Redis is not reached, which keeps answers of the tenant: {error}."
            raise CliError(message, advice="Not everything is erased. Run it again when Redis is back.") from None
        except OSError as error:
            advice = "Not everything is erased. Run it again when the artifact store is back."
            raise CliError(f"The artifact store: {error}.", advice=advice) from None
    for kind, count in report.erased.items():
        typer.echo(f"  {count:>8,} {kind} erased")
    typer.echo("Left:")
    for left in report.left:
        typer.echo(f"  {left.what}: {left.why}.")
