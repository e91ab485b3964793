"""What a key or a tenant may use at most."""

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """None sets no limit, but for the two rates of a key, which then have the default of the settings.

    Days and months are the calendar's, in UTC. Money is in the currency of the models' prices.
    """

    model_config = ConfigDict(frozen=True)

    requests_per_minute: int | None = Field(None, gt=0)
    tokens_per_minute: int | None = Field(None, gt=0)
    concurrency: int | None = Field(None, gt=0, description="Requests that engines may be answering at a time.")
    tokens_per_day: int | None = Field(None, gt=0)
    tokens_per_month: int | None = Field(None, gt=0)
    money_per_day: float | None = Field(None, gt=0)
    money_per_month: float | None = Field(None, gt=0)


NO_LIMITS = Limits()


class Tenant(Limits):
    """The limits that all keys of a tenant share."""

    id: str
