"""Settings of products on GPUs: they can be set, and change nothing."""

from types import SimpleNamespace

# Products of float32 are computed in float32; `amp.autocast` chooses fewer bits.
matmul = SimpleNamespace(allow_tf32=False, allow_fp16_reduced_precision_reduction=False)


def is_built() -> bool:
    """True: GPUs are used wherever there is a driver."""
    return True
