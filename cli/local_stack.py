"""How commands find the stack: `local.json`, or FLYWHEEL_BASE_URL and FLYWHEEL_API_KEY."""

import os
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from cli.errors import CliError
from cli.home import Home, write_private
from contracts.settings import SECRETS_DIR, Settings


class LocalStack(BaseModel):
    """`FLYWHEEL_HOME/local.json`: how to reach the stack that the supervisor runs."""

    model_config = ConfigDict(frozen=True)

    base_url: str
    api_key: str
    pids: dict[str, int]
    ports: dict[str, int]
    logs: dict[str, str]
    settings: dict[str, str]

    def write(self, home: Home) -> None:
        write_private(home.local_file, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, home: Home) -> "LocalStack | None":
        try:
            return cls.model_validate_json(home.local_file.read_text())
        except (FileNotFoundError, ValidationError):
            return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    base_url: str
    api_key: str


def find_endpoint() -> Endpoint:
    """Raises CliError where no stack is known."""
    base_url, api_key = os.environ.get("FLYWHEEL_BASE_URL"), os.environ.get("FLYWHEEL_API_KEY")
    if base_url and api_key:
        return Endpoint(base_url.rstrip("/"), api_key)
    if base_url or api_key:
        missing = "FLYWHEEL_API_KEY" if base_url else "FLYWHEEL_BASE_URL"
        raise CliError(f"{missing} is not set.", advice="Set both it and its companion, or neither.")
    stack = LocalStack.read(Home.find())
    if stack is None:
        raise CliError(
            "No stack runs here.",
            advice="Run `make up`, or set FLYWHEEL_BASE_URL and FLYWHEEL_API_KEY to reach one elsewhere.",
        )
    return Endpoint(stack.base_url, stack.api_key)


def stack_environment(home: Home) -> dict[str, str]:
    """The settings of the local stack: what the environment says, else what the running stack uses.

    Those that are files in /run/secrets are left out, since `Settings` reads them there. A container has no other.
    """
    stack = LocalStack.read(home)
    said = {name: value for name, value in os.environ.items() if name.startswith("FLYWHEEL_") and value}
    elsewhere = said.keys() | {file.name for file in SECRETS_DIR.glob("FLYWHEEL_*")}
    used = {} if stack is None else stack.settings
    return home.environment(elsewhere=elsewhere) | {k: v for k, v in used.items() if k not in elsewhere} | said


def stack_settings(home: Home) -> Settings:
    return settings_from(stack_environment(home))


def settings_from(environment: dict[str, str]) -> Settings:
    """Settings of an environment that is not this process's own. Raises CliError that names the variable."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "FLYWHEEL_" + "__".join(str(part) for part in first["loc"]).upper()
        raise CliError(f"{name}: {first['msg']}", advice="`flywheel config` lists every setting.") from None
    finally:
        os.environ.clear()
        os.environ.update(before)
