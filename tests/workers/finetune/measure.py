"""`python -m tests.workers.finetune.measure`, in the worker's environment: the loss of published weights.

Reads a list of {"weights", "adapter", "rows"} from standard input and prints a list of losses: the mean over the tokens
of the last answers. It uses transformers and the published chat template, and nothing of the code under test.
"""

import json
import sys
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.no_grad()
def loss(weights: str, adapter: str | None, rows: list[dict[str, Any]]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    total = count = 0.0
    for row in rows:
        messages = row["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        log_probabilities = model(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
        chosen = log_probabilities.gather(1, ids[0, 1:, None])[start - 1 :]
        total, count = total - float(chosen.sum()), count + len(chosen)
    return total / count


if __name__ == "__main__":
    print(json.dumps([loss(**wanted) for wanted in json.load(sys.stdin)]))
