"""Every benchmark, one after the other: `make bench`."""

from __future__ import annotations

import import_time
import jit
import matmul
import memory
import models
import steps


def main() -> None:
    """Print all tables."""
    matmul.main()
    steps.main([])
    models.main([])
    jit.main(["--no-max-autotune"])
    memory.main([])
    import_time.main()


if __name__ == "__main__":
    main()
