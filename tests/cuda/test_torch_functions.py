"""Functions of needle.nn.functional on the GPU against the NumPy device: one of each kind."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.nn import functional as F

CASES = [
    ("mish", [(3, 4)], {}),
    ("pad", [(1, 2, 4, 3)], {"pad": (1, 2, 0, 2), "mode": "reflect"}),
    ("interpolate", [(1, 2, 3, 4)], {"scale_factor": 2, "mode": "bilinear"}),
    ("conv3d", [(1, 2, 3, 4, 4), (3, 2, 2, 3, 3), (3,)], {"padding": 1}),
    ("conv_transpose3d", [(1, 2, 2, 3, 3), (2, 3, 2, 2, 2)], {"stride": 2}),
    ("max_pool3d", [(1, 2, 4, 4, 4)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool2d", [(1, 2, 5, 5)], {"kernel_size": 2, "ceil_mode": True}),
    ("adaptive_avg_pool2d", [(1, 2, 5, 7)], {"output_size": (2, 3)}),
    ("unfold", [(1, 2, 4, 4)], {"kernel_size": 2}),
    ("grid_sample", [(1, 2, 4, 4), (1, 3, 3, 2)], {"padding_mode": "border"}),
    ("instance_norm", [(2, 3, 4, 4)], {}),
    ("local_response_norm", [(2, 4, 3, 3)], {"size": 3}),
    ("bilinear", [(3, 4), (3, 5), (2, 4, 5)], {}),
    ("cosine_similarity", [(3, 4), (3, 4)], {}),
]


@pytest.mark.parametrize(("name", "shapes", "options"), CASES, ids=[c[0] for c in CASES])
def test_values_and_gradients(gpu, name, shapes, options):
    draw = np.random.RandomState(0)
    arrays = [draw.randn(*shape) for shape in shapes]

    def run(device):
        inputs = [ndl.Tensor(a, device=device, dtype="float64") for a in arrays]
        y = getattr(F, name)(*inputs, **options)
        (y * y).sum().backward()
        return [v.numpy() for v in (y, *(x.grad for x in inputs))]

    for ours, wanted in zip(run(gpu), run(ndl.cpu_numpy()), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-10)
