"""`python -m loadtests.finetune.bare WEIGHTS SOCKET FILE SEED BATCH`: what one writes with trl and peft alone.

The model, data, seed, adapter and optimiser are those of a LoRA job of ours.
"""

import sys

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from loadtests.finetune.player import play


def main(weights: str, address: str, file: str, seed: str, batch: str) -> None:
    play("bare", address)
    tokenizer = AutoTokenizer.from_pretrained(weights)

    def prepare(row):
        prompt = tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
        return {"prompt": prompt, "completion": row["messages"][-1]["content"] + tokenizer.eos_token}

    rows = load_dataset("json", data_files=file, split="train").map(prepare, remove_columns=["messages"])
    steps = -(-len(rows) // int(batch))
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32),
        args=SFTConfig(
            output_dir=f"{address}-trainer",
            num_train_epochs=1,
            per_device_train_batch_size=int(batch),
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, steps // 20),
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            seed=int(seed),
            data_seed=int(seed),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"
        ),
    )
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
