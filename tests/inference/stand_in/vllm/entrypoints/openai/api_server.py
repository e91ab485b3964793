"""Stands where `vllm.entrypoints.openai.api_server` does, so that a real agent can start and stop it in milliseconds.

With FAKE_VLLM_FAILURES=<file with a number> it fails to start that many times, with FAKE_VLLM_REFUSES=<option> always
where it is given that option.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from tests.fake_engine.server import FakeEngine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    arguments, _ = parser.parse_known_args()
    if (file := os.environ.get("FAKE_VLLM_FAILURES")) and (left := int(Path(file).read_text())) > 0:
        Path(file).write_text(str(left - 1))
        sys.exit(1)
    if (option := os.environ.get("FAKE_VLLM_REFUSES")) and option in sys.argv:
        sys.exit(f"ValueError: {option} is not supported here")
    asyncio.run(FakeEngine(arguments.served_model_name, context_length=arguments.max_model_len).serve(arguments.port))


if __name__ == "__main__":
    main()
