"""Training steps of image, sequence and attention models, eager needle against eager PyTorch.

    python benchmarks/models.py [resnet9 lstm lstm-large gpt]

The same weights and batches; losses of the first 8 steps must agree to 1e-4. PyTorch runs the
convolutional network in its default layout and channels last.
"""

from __future__ import annotations

import sys
from functools import partial

import cases
from contenders import eager_steps
from harness import Workload, measure

WORKLOADS: dict[str, Workload] = {
    "resnet9": (partial(eager_steps, cases.resnet9), "<= 1.2 x fastest"),
    "lstm": (partial(eager_steps, cases.lstm), "<= 1.0 x PyTorch"),
    "lstm-large": (partial(eager_steps, cases.lstm_large), "<= 0.9 x PyTorch"),
    "gpt": (partial(eager_steps, cases.gpt), "<= 1.0 x PyTorch"),
}


def main(names: list[str]) -> None:
    """Check and time the workloads of these names (all by default) and print the table."""
    measure({name: WORKLOADS[name] for name in names or WORKLOADS})


if __name__ == "__main__":
    main(sys.argv[1:])
