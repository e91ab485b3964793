"""A learnt prompt as tokens of the vocabulary, so that engines which know no learnt prompts can serve it."""

import torch
from peft import PeftModel
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase


def as_tokens(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base with one token more for each learnt vector; the chat template begins with these tokens.

    Exact: the model computes for a chat what it computed in training. A new token's logit is that of the token which
    the base thinks least likely to come first, so it is never said; for this the output layer gets weights of its own.
    """
    vectors = model.get_prompt_embedding_to_save("default").detach()
    base: PreTrainedModel = model.get_base_model()
    names = [f"<|learnt_{number}|>" for number in range(len(vectors))]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True)
    tokenizer.chat_template = "{{- " + repr("".join(names)) + " -}}" + tokenizer.chat_template
    ids = tokenizer.convert_tokens_to_ids(names)

    embeddings, head = base.get_input_embeddings().weight.detach(), base.get_output_embeddings().weight.detach()
    rows = max(len(embeddings), max(ids) + 1)
    unlikely = head[_least_likely(base, tokenizer)]
    new_embeddings = torch.cat([embeddings, embeddings.new_zeros(rows - len(embeddings), embeddings.shape[1])])
    new_head = torch.cat([head, unlikely.expand(rows - len(head), -1)])
    new_embeddings[ids], new_head[ids] = vectors.to(embeddings.dtype), unlikely

    base.config.tie_word_embeddings = False
    base.config.vocab_size = rows
    base.set_input_embeddings(torch.nn.Embedding.from_pretrained(new_embeddings, freeze=False))
    output = torch.nn.Linear(new_head.shape[1], rows, bias=False)
    output.weight = torch.nn.Parameter(new_head.clone())
    base.set_output_embeddings(output)
    return base, tokenizer


@torch.no_grad()
def _least_likely(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    device = base.get_input_embeddings().weight.device
    start = torch.tensor([[tokenizer.bos_token_id or tokenizer.eos_token_id]], device=device)
    return int(base(input_ids=start).logits[0, -1].argmin())
