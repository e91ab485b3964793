"""`python -m tests.fake_engine --port 9000`"""

import argparse

import uvloop

from tests.fake_engine.server import FakeEngine


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake vLLM for tests and benchmarks.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--context-length", type=int, default=2048)
    arguments = parser.parse_args()
    engine = FakeEngine(arguments.model, context_length=arguments.context_length)
    try:
        uvloop.run(engine.serve(arguments.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
