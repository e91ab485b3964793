"""The OpenAI client of the stack, and its errors as a person should read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.errors import CliError
from cli.local_stack import find_endpoint

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI


@contextmanager
def openai_client() -> Iterator["OpenAI"]:
    """Raises CliError for everything that can go wrong between here and the gateway."""
    import openai

    endpoint = find_endpoint()
    with openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, timeout=300) as client:
        try:
            yield client
        except openai.APIConnectionError:
            raise CliError(
                f"Nothing answers at {endpoint.base_url}.",
                advice="`flywheel status` says what runs; `make up` starts it.",
            ) from None
        except openai.AuthenticationError as error:
            raise CliError(_message(error), advice="`flywheel keys create` makes a key.") from None
        except openai.APIStatusError as error:
            raise CliError(_message(error)) from None
        except openai.APIError as error:
            raise CliError(error.message) from None


def _message(error: "APIStatusError") -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(error.message)
