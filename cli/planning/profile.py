"""One engine as measured: the JSON that `flywheel bench --json` prints, at several concurrencies."""

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError, field_validator

from cli.errors import CliError


class Median(BaseModel):
    p50: float = Field(ge=0)


class MeasuredLevel(BaseModel):
    concurrency: int = Field(ge=1)
    requests: int = Field(ge=1)
    failures: int = Field(ge=0)
    requests_per_s: float = Field(gt=0)
    output_tokens: int = Field(ge=1)
    time_to_first_token_s: Median
    time_between_tokens_s: Median

    @property
    def answers(self) -> int:
        return self.requests - self.failures

    @property
    def answer_tokens(self) -> float:
        return self.output_tokens / self.answers


class Profile(BaseModel):
    """Levels in the order of their concurrency. The largest is taken for the most that the engine batches."""

    model: str
    levels: list[MeasuredLevel] = Field(min_length=2)

    @field_validator("levels")
    @classmethod
    def _in_order(cls, levels: list[MeasuredLevel]) -> list[MeasuredLevel]:
        ordered = sorted(levels, key=lambda level: level.concurrency)
        if ordered[0].concurrency != 1:
            raise ValueError("no level with one request at a time")
        if len({level.concurrency for level in ordered}) < len(ordered):
            raise ValueError("two levels have the same concurrency")
        return ordered

    @classmethod
    def read(cls, file: Path) -> "Profile":
        """Raises CliError."""
        advice = f"Measure one engine: `flywheel bench --concurrency 1 --concurrency 16 --json > {file}`."
        try:
            return cls.model_validate_json(file.read_bytes())
        except OSError as error:
            raise CliError(f"{file} cannot be read: {error.strerror}.", advice=advice) from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise CliError(f"{file} is no profile: {place}: {first['msg']}", advice=advice) from None
