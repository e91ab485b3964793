"""`python -m loadtests.evaluate.through_gateway`, in the worker's environment: what the job asks, and how fast it is.

Reads from standard input what `tests.workers.evaluate.straight` reads, with `secret`, a key of the gateway's.
"""

import json
import sys
import time
from pathlib import Path

from contracts.harness import HarnessSpec
from workers.evaluate.harness_model import GatewayModel
from workers.evaluate.harness_tasks import Tasks
from workers.gateway import Caller


def main() -> None:
    wanted = json.load(sys.stdin)
    tasks = Tasks()
    model = GatewayModel(
        Caller(f"{wanted['url']}/v1", wanted["secret"]),
        wanted["model"],
        tokenizer=Path(wanted["tokenizer"]),
        context_length=wanted["context_length"],
        at_once=wanted["at_once"],
        check=lambda: None,
    )
    names = tasks.expand(wanted["tasks"])
    spec = HarnessSpec(model=wanted["model"], tokenizer="", creator="", tasks=tuple(names), limit=wanted["limit"])
    began_at, scores = time.monotonic(), []
    for name in names:
        found, _ = tasks.evaluate(name, model, spec)
        scores += [score.model_dump() for score in found]
    seconds = time.monotonic() - began_at
    rows = sum({score["task"]: score["rows"] for score in scores}.values())
    print(json.dumps({"scores": scores, "rows": rows, "seconds": seconds}))


if __name__ == "__main__":
    main()
