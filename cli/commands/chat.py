"""`flywheel chat`: a conversation with a model, streamed."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import openai_client
from cli.errors import CliError
from cli.instructions import TEXT_MODEL

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam


def chat(
    message: Annotated[str | None, typer.Argument(help="What to say; without it, a conversation.")] = None,
    model: Annotated[str, typer.Option(help="The model to talk to.")] = TEXT_MODEL,
) -> None:
    """Talk to a model. Without a message, what is piped in is the message."""
    interactive = message is None and sys.stdin.isatty()
    with openai_client() as client:
        if interactive:
            _converse(client, model)
        elif said := (sys.stdin.read() if message is None else message).strip():
            _answer(client, model, [{"role": "user", "content": said}])
        else:
            raise CliError("There is no message.", advice='Write it: flywheel chat "Hello", or pipe it in.')


def _converse(client: "OpenAI", model: str) -> None:
    typer.secho(f"{model} — end with Ctrl-D", dim=True)
    messages: list[ChatCompletionMessageParam] = []
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            print()
            return
        if said:
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": _answer(client, model, messages)})


def _answer(client: "OpenAI", model: str, messages: "list[ChatCompletionMessageParam]") -> str:
    """Prints the answer while it comes, and returns it."""
    parts: list[str] = []
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        for choice in chunk.choices:
            parts.append(choice.delta.content or "")
            print(parts[-1], end="", flush=True)
    print()
    return "".join(parts)
