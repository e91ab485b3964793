"""The smallest weights of each linear layer become 0: a share of a row, or two of each four (Mishra et al., 2021).

They stay dense matrices: vLLM has no kernel for 2:4 on CPUs, and its one for GPUs takes no such weights any more.
"""

import torch

from workers.compress.techniques.folders import begin_with, blocks, load, save
from workers.compress.techniques.program import run
from workers.compress.told import CannotMake, Task, Teller

GROUP, KEPT = 4, 2


def prune_weights(task: Task, teller: Teller) -> dict[str, float]:
    begin_with(task)
    model = load(task.source)
    zeros = total = 0
    for layer in blocks(model).modules():
        if isinstance(layer, torch.nn.Linear):
            with torch.no_grad():
                layer.weight.mul_(mask(layer.weight, task.options["pattern"], task.options["sparsity"]))
            zeros += int((layer.weight == 0).sum())
            total += layer.weight.numel()
    teller.message(f"{zeros / total:.0%} of the linear layers' weights are 0.")
    save(model, task)
    return {"zeros": zeros / total}


def mask(weights: torch.Tensor, pattern: str, sparsity: float) -> torch.Tensor:
    """1 for weights that stay, of `weights` (rows, columns). Raises CannotMake where rows cannot be parted in fours."""
    sizes = weights.abs()
    if pattern == "2:4":
        if weights.shape[1] % GROUP:
            raise CannotMake(f"Its rows of {weights.shape[1]} weights cannot be parted in fours.")
        fours = sizes.unflatten(1, (-1, GROUP))
        stays = torch.zeros_like(fours).scatter_(-1, fours.topk(KEPT, -1).indices, 1.0)
        return stays.flatten(1)
    kept = weights.shape[1] - round(sparsity * weights.shape[1])
    return torch.zeros_like(sizes).scatter_(1, sizes.topk(kept, 1).indices, 1.0)


if __name__ == "__main__":
    run(prune_weights)
