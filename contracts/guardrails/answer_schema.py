"""A JSON Schema that answers must follow."""

from typing import Any

import jsonschema_rs


class BadSchema(ValueError):
    """No valid JSON Schema, or one that refers to another place."""


class AnswerSchema:
    """Compiled once; a check of a kilobyte takes microseconds. Patterns match in linear time."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raises BadSchema."""
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise BadSchema(str(error).partition("\n")[0]) from None

    def allows(self, answer: Any) -> bool:
        return self._validator.is_valid(answer)
