"""The options that set limits, and limits as tables show them."""

from typing import Annotated

import typer

from contracts.limits import Limits

Rpm = Annotated[int | None, typer.Option("--rpm", min=1, help="Requests a minute.")]
Tpm = Annotated[int | None, typer.Option("--tpm", min=1, help="Tokens a minute.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", min=1, help="Requests at a time.")]
TokensPerDay = Annotated[int | None, typer.Option("--budget-tokens-day", min=1, help="Tokens a day (UTC).")]
TokensPerMonth = Annotated[int | None, typer.Option("--budget-tokens-month", min=1, help="Tokens a month (UTC).")]
MoneyPerDay = Annotated[
    float | None, typer.Option("--budget-money-day", min=1e-9, help="Money a day, by the models' prices.")
]
MoneyPerMonth = Annotated[float | None, typer.Option("--budget-money-month", min=1e-9, help="Money a month.")]


def describe_limits(limits: Limits) -> str:
    told = (
        ("rpm", limits.requests_per_minute),
        ("tpm", limits.tokens_per_minute),
        ("at a time", limits.concurrency),
        ("tokens/day", limits.tokens_per_day),
        ("tokens/month", limits.tokens_per_month),
        ("money/day", limits.money_per_day),
        ("money/month", limits.money_per_month),
    )
    return ", ".join(f"{value:,} {name}" for name, value in told if value is not None)
