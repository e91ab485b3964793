"""What a training needs of memory and of room for files, as far as the size of its base tells."""

from pydantic import BaseModel, ConfigDict

from contracts.fine_tuning import LOW_RANK, FineTuningSpec

STORED_BYTES_A_PARAMETER = 2
COMPUTED_BYTES_A_PARAMETER = 4
STATE_BYTES_A_PARAMETER = 12
"""A trained parameter in a checkpoint: itself and Adam's two moments, in fp32."""
TRAINED_BYTES_A_PARAMETER = 16
"""A trained parameter in memory: itself, its gradient and Adam's two moments, in fp32."""
ADAPTER_SHARE = 0.05
"""Parameters of an adapter beside those of its base: 0.036 for SmolLM2-135M at rank 16, less for larger models."""
CHECKPOINTS_AT_ONCE = 3
"""Two are kept while the next one is written."""
LIBRARIES_BYTES = 768 << 20
"""torch, transformers and what they allocate for a step of a small model."""


class JobNeeds(BaseModel):
    """Lower bounds in bytes: long sequences and large batches need more memory."""

    model_config = ConfigDict(frozen=True)

    memory_bytes: int
    scratch_bytes: int
    artifact_bytes: int


def estimate_needs(spec: FineTuningSpec, *, weights_bytes: int) -> JobNeeds:
    """`weights_bytes` is the size of the base in 16 bits a parameter."""
    parameters = weights_bytes / STORED_BYTES_A_PARAMETER
    small = adaptation_of(spec) in LOW_RANK
    trained = parameters * ADAPTER_SHARE if small else parameters
    frozen = parameters if small else 0
    state, result = trained * STATE_BYTES_A_PARAMETER, trained * COMPUTED_BYTES_A_PARAMETER
    memory = frozen * COMPUTED_BYTES_A_PARAMETER + trained * TRAINED_BYTES_A_PARAMETER + LIBRARIES_BYTES
    return JobNeeds(
        memory_bytes=int(memory),
        scratch_bytes=int(2 * state + result),
        artifact_bytes=int(CHECKPOINTS_AT_ONCE * state + result),
    )


def adaptation_of(spec: FineTuningSpec) -> str:
    """`full` for the methods that know no other."""
    return str(getattr(spec.hyperparameters, "chosen_adaptation", "full"))


def in_words(size: float) -> str:
    """For people: `1.2 GB`."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
