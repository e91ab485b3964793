"""`flywheel tenants`: the limits that all keys of a tenant share."""

import typer

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

app = typer.Typer(help="Set and list what all keys of a tenant may use together.", no_args_is_help=True)


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
