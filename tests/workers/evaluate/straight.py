"""`python -m tests.workers.evaluate.straight`, in the worker's environment: the harness by itself, at an engine.

Reads `{url, model, tokenizer, context_length, tasks, limit, …}` from standard input and prints its results as JSON.
Nothing of ours is used but the tasks.
"""

import json
import sys
import time

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

TASKS = "workers/evaluate/tasks"


def main() -> None:
    wanted = json.load(sys.stdin)
    arguments = {
        "model": wanted["model"],
        "base_url": f"{wanted['url']}/v1/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": wanted["tokenizer"],
        "max_length": wanted["context_length"],
        "num_concurrent": wanted.get("at_once", 8),
    }
    manager = TaskManager(include_path=TASKS, include_defaults=False)
    began_at = time.monotonic()
    results = simple_evaluate(
        "local-completions",
        model_args=arguments,
        tasks=wanted["tasks"],
        task_manager=manager,
        limit=wanted.get("limit"),
        num_fewshot=wanted.get("num_fewshot"),
        apply_chat_template=wanted.get("apply_chat_template", False),
        bootstrap_iters=1000,
        log_samples=False,
    )
    seconds = time.monotonic() - began_at
    rows = sum(each["effective"] for each in results["n-samples"].values())
    print(json.dumps({"results": results["results"], "rows": rows, "seconds": seconds}, default=float))


if __name__ == "__main__":
    main()
