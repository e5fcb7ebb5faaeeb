"""Settings of cuDNN, which needle does not use: they can be set, and change nothing."""

enabled = False
benchmark = False
deterministic = True
allow_tf32 = False


def is_available() -> bool:
    """False: needle has kernels of its own."""
    return False


def version() -> None:
    """None: there is no cuDNN."""
