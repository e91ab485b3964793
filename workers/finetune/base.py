"""Loads the base model of a training. Importing this module imports torch."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from contracts.fine_tuning import Adaptation
from workers.finetune.task import TrainingTask
from workers.finetune.trainers import on_gpu
from workers.run import JobFailed


def load_tokenizer(task: TrainingTask) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(task.weights)


def load_causal_model(task: TrainingTask, adaptation: Adaptation) -> PreTrainedModel:
    """In fp32 on a CPU. On a GPU frozen weights are bf16 and trained ones fp32.

    Raises JobFailed for qlora without a GPU.
    """
    if adaptation == "qlora":
        return _load_in_4_bits(task)
    dtype = torch.bfloat16 if on_gpu() and adaptation != "full" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(task.weights, dtype=dtype)
    model.config.use_cache = False
    return model


def _load_in_4_bits(task: TrainingTask) -> PreTrainedModel:
    if not on_gpu():
        message = "qlora needs a worker with a GPU. Use lora, which needs none."
        raise JobFailed("gpu_required", message, param="adaptation")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        message = "qlora needs the package bitsandbytes on the worker, which is not installed. Use lora."
        raise JobFailed("bitsandbytes_required", message, param="adaptation") from None
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(
        task.weights,
        dtype=torch.bfloat16,
        quantization_config=quantization,
        device_map={"": torch.cuda.current_device()},
    )
