from collections.abc import Iterator

import pytest

from contracts import errors
from contracts.errors import ApiError, InvalidApiKey, ModelNotFound, RateLimitExceeded


def tree(root: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    """The tree of the contract; services may refine it, for example to add headers."""
    for error in root.__subclasses__():
        if error.__module__ == errors.__name__:
            yield error
            yield from tree(error)


def test_the_envelope_is_openais() -> None:
    assert ModelNotFound("gpt-9").envelope().model_dump() == {
        "error": {
            "message": "The model `gpt-9` does not exist or you do not have access to it.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


@pytest.mark.parametrize(("wait_s", "header"), [(0.01, "1"), (1.2, "2"), (30.0, "30")])
def test_a_wait_is_told_in_whole_seconds_rounded_up(wait_s: float, header: str) -> None:
    assert RateLimitExceeded("Slow down.", retry_after_s=wait_s).headers() == {"retry-after": header}


def test_no_wait_no_header() -> None:
    assert RateLimitExceeded("Slow down.").headers() == {}


def test_an_unknown_caller_is_asked_for_a_bearer_token() -> None:
    assert InvalidApiKey("Wrong.").headers() == {"www-authenticate": "Bearer"}


@pytest.mark.parametrize("error", list(tree()), ids=lambda error: error.__name__)
def test_the_drawn_tree_tells_the_truth(error: type[ApiError]) -> None:
    """The docstring of the module is what people read."""
    (line,) = [line for line in (errors.__doc__ or "").splitlines() if error.__name__ in line.split()]
    words = line.split()
    if "code" in words:
        assert error.code == words[words.index("code") + 1]
    if (numbers := [word for word in words if word.isdecimal()]) != []:
        assert error.status == int(numbers[0])
    assert 400 <= error.status < 600
