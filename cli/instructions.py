"""What a person can paste once the stack runs."""

import json
from pathlib import Path

from cli.home import environment_python
from cli.local_stack import LocalStack

TEXT_MODEL = "smollm2-135m-instruct"


def print_instructions(stack: LocalStack) -> None:
    """Plain lines without wrapping or colour, so that what is copied is what runs."""
    print(f"\n  base URL  {stack.base_url}\n  API key   {stack.api_key}\n")
    print("Ask it, in a shell:\n")
    print(curl_line(stack.base_url, stack.api_key, TEXT_MODEL))
    print(f"\nOr in Python ({_short(environment_python('cli'))}, or any with `pip install openai`):\n")
    print(python_snippet(stack.base_url, stack.api_key, TEXT_MODEL))
    print("\n`flywheel` is", _short(environment_python("cli").with_name("flywheel")), "— try `flywheel chat`.")
    print("`make down` stops everything.")


def curl_line(base_url: str, api_key: str, model: str, prompt: str = "What is a flywheel?") -> str:
    body = {"model": model, "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    return (
        f"curl -N {base_url}/chat/completions -H 'Authorization: Bearer {api_key}'"
        f" -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )


def python_snippet(base_url: str, api_key: str, model: str) -> str:
    return f"""\
from openai import OpenAI
client = OpenAI(base_url="{base_url}", api_key="{api_key}")
messages = [{{"role": "user", "content": "What is a flywheel?"}}]
stream = client.chat.completions.create(model="{model}", messages=messages, max_tokens=100, stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)"""


def _short(path: Path) -> str:
    """Relative to the current folder where it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
