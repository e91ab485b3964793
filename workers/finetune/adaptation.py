"""How weights change (contracts/fine_tuning.py, Adaptation), in peft's words."""

from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    PromptTuningInit,
    TaskType,
)

from contracts.fine_tuning import AdaptingHyperparameters
from workers.finetune.hyperparameters import RANK, VIRTUAL_TOKENS

SCALE = 2
"""Of a low-rank adapter's output: alpha / rank, so that one learning rate holds for every rank."""
RSLORA_ALPHA = 8
"""rsLoRA scales by alpha / sqrt(rank); this alpha gives the same scale at the rank that "auto" takes."""


def peft_config(wanted: AdaptingHyperparameters, *, tokenizer: str) -> PeftConfig | None:
    """None where every weight is trained. `tokenizer` is the folder of the base's."""
    virtual_tokens = getattr(wanted, "virtual_tokens", "auto")
    virtual_tokens = VIRTUAL_TOKENS if virtual_tokens == "auto" else virtual_tokens
    rank = RANK if wanted.lora_rank == "auto" else wanted.lora_rank
    match wanted.chosen_adaptation:
        case "full":
            return None
        case "ia3":
            return IA3Config(task_type=TaskType.CAUSAL_LM)
        case "prompt":
            return PromptTuningConfig(
                task_type=TaskType.CAUSAL_LM,
                num_virtual_tokens=virtual_tokens,
                prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
                tokenizer_name_or_path=tokenizer,
            )
        case "prefix":
            return PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=virtual_tokens)
        case low_rank:
            return LoraConfig(
                task_type=TaskType.CAUSAL_LM,
                r=rank,
                lora_alpha=RSLORA_ALPHA if low_rank == "rslora" else SCALE * rank,
                lora_dropout=0.0,
                use_rslora=low_rank == "rslora",
                use_dora=low_rank == "dora",
                target_modules="all-linear",
            )
