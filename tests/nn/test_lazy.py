"""Layers whose number of input features follows from the first input."""

import copy

import numpy as np
import pytest

import needle as ndl
from needle import nn

torch = pytest.importorskip("torch")

CASES = [
    ("Linear", (2, 5), (3,), {}),
    *(
        (f"{kind}{n}d", (2, 4, *[7] * n), (6, 3), {"groups": 2})
        for kind in ("Conv", "ConvTranspose")
        for n in (1, 2, 3)
    ),
    *((f"BatchNorm{n}d", (2, 4, *[3] * n), (), {"affine": n != 2}) for n in (1, 2, 3)),
    *((f"InstanceNorm{n}d", (2, 4, *[3] * n), (), {"affine": True}) for n in (1, 2, 3)),
]


@pytest.mark.parametrize(("name", "shape", "args", "options"), CASES, ids=str)
def test_a_lazy_layer_becomes_the_layer(device, name, shape, args, options):
    layer = getattr(nn, f"Lazy{name}")(*args, **options).to(device)
    held = layer.parameters()
    peer = getattr(torch.nn, f"Lazy{name}")(*args, **options)
    values = np.random.RandomState(0).randn(*shape).astype("float32")
    x, theirs = ndl.Tensor(values, device=device), torch.tensor(values)
    layer(x), peer(theirs)
    assert type(layer) is getattr(nn, name)
    assert all(p is q for p, q in zip(held, layer.parameters(), strict=True))
    assert repr(layer) == repr(copy.deepcopy(layer))
    nn.from_torch_state_dict(layer, peer.state_dict())
    expected = peer.eval()(theirs).detach().numpy()
    if "Norm" in name:  # the course's running variance is biased
        layer.running_var.data = ndl.Tensor(peer.running_var.numpy(), device=device)
    for forward in (layer.eval(), ndl.jit(layer)):
        np.testing.assert_allclose(forward(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    layer(x).sum().backward()
    nn.Sequential(layer).zero_grad()


def test_a_lazy_model_is_called_before_it_is_compiled():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    with pytest.warns(UserWarning, match="call the model once before it is compiled"):
        ndl.jit(model)(ndl.ones(2, 3))
    assert [p.shape for p in model.parameters()] == [(3, 4), (1, 4), (4, 2), (1, 2)]
    with pytest.raises(ValueError, match="batch axis"):
        nn.LazyLinear(4)(ndl.ones(3))
