"""Every `FLYWHEEL_…` variable that the settings tree reads."""

from collections.abc import Iterator

from pydantic import BaseModel

from contracts.settings import Settings


def variables(section: type[BaseModel] = Settings, prefix: str = "FLYWHEEL_") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"
