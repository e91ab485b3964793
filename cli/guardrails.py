"""Guardrails of keys as files that people write."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from cli.errors import CliError
from contracts.guardrails import GuardrailPolicy
from contracts.guardrails.checking import BadPolicy, check_policy

EXAMPLE = "examples/guardrails.yaml is one."


def read_policy(file: Path) -> GuardrailPolicy:
    """Raises CliError, which names the field that is wrong."""
    try:
        document = yaml.safe_load(file.read_text())
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise CliError(f"{file} is no YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(document, dict):
        raise CliError(f"{file} has no fields.", advice=EXAMPLE)
    try:
        policy = GuardrailPolicy.model_validate(document)
        check_policy(policy)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CliError(f"{file}: {where + ': ' if where else ''}{first['msg']}.", advice=EXAMPLE) from None
    except BadPolicy as error:
        raise CliError(f"{file}: {error.message}") from None
    return policy


def written(policy: GuardrailPolicy) -> str:
    """As `read_policy` reads it."""
    document = policy.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
