"""NDArray's interface: construction, views, indexing, dtypes, exchange with NumPy, errors."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from numeric import assert_product

import needle as ndl
from needle import backend_ndarray as nd

DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]


def arange(*shape, device=None, dtype="float32"):
    return nd.array(np.arange(np.prod(shape, dtype=int)).reshape(shape), dtype, device)


# ---- construction and exchange ----------------------------------------------------------------


def test_array_is_float32_unless_a_dtype_is_given(device):
    assert nd.array([1, 2], device=device).dtype == "float32"
    assert nd.NDArray(np.arange(3), device=device).dtype == "float32"
    assert nd.array([1, 2], "int64", device).dtype == "int64"
    assert nd.NDArray(nd.array([1, 2], "int32", device)).dtype == "int32"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_round_trip_of_every_dtype_and_shape(dtype, shape, device):
    x = np.asarray(np.random.RandomState(0).rand(*shape) * 5).astype(dtype)
    a = nd.array(x, dtype, device)
    assert (a.shape, a.ndim, a.size, a.dtype) == (shape, len(shape), x.size, dtype)
    assert a.nbytes == x.nbytes
    np.testing.assert_array_equal(a.numpy(), x)
    np.testing.assert_array_equal(np.asarray(a), x)
    np.testing.assert_array_equal(a.to(ndl.cpu_numpy()).numpy(), x)
    assert a.tolist() == x.tolist()
    assert str(a) == str(x)
    for clone in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        np.testing.assert_array_equal(clone.numpy(), x)
        assert clone.device == device


def test_construction_copies(device):
    x = np.zeros(3, dtype="float32")
    a = nd.array(x, device=device)
    x[0] = 1
    assert a.tolist() == [0, 0, 0]
    b = nd.NDArray(a)
    b[1] = 1
    assert a.tolist() == [0, 0, 0]


def test_numpy_is_a_copy_and_asarray_shares(device):
    a = arange(3, device=device)
    a.numpy()[0] = 9
    assert a.tolist() == [0, 1, 2]
    np.asarray(a)[0] = 9
    assert a.tolist() == [9, 1, 2]
    with pytest.raises(ValueError, match="without a copy"):
        a.__array__("float64", copy=False)


def test_from_numpy_shares_memory(device):
    x = np.arange(6, dtype="float64").reshape(2, 3)
    a = nd.from_numpy(x, device)
    assert a.dtype == "float64"
    x[0, 0] = 7
    assert a[0, 0].item() == 7
    a[1, 2] = 8
    assert x[1, 2] == 8


def test_from_numpy_keeps_its_source_alive(device):
    a = nd.from_numpy(np.arange(1000, dtype="float32"), device)
    noise = [np.full(1000, -1.0, dtype="float32") for _ in range(20)]
    assert a.tolist() == list(range(1000)), len(noise)


def test_from_numpy_of_what_cannot_be_shared_copies(device):
    frozen = np.arange(3, dtype="float32")
    frozen.flags.writeable = False
    for x in (frozen, np.arange(6, dtype="float32")[::2], np.arange(3).astype(">i4")):
        a = nd.from_numpy(x, device)
        a[0] = 5
        np.testing.assert_array_equal(a.numpy()[1:], x[1:])
        assert x[0] == 0
    with pytest.raises(TypeError, match="complex"):
        nd.from_numpy(np.zeros(2, dtype=complex), device)
    with pytest.raises(TypeError, match="list"):
        nd.from_numpy([1.0], device)


def test_dlpack_both_ways(device):
    a = arange(2, 3, device=device)
    view = np.from_dlpack(a)
    a[0, 0] = 5
    assert view[0, 0] == 5
    b = nd.from_dlpack(np.ones(3, dtype="int32"), device)
    assert (b.tolist(), b.dtype) == ([1, 1, 1], "int32")


def test_dlpack_with_torch(device):
    torch = pytest.importorskip("torch")
    a = arange(2, 3, device=device)
    assert torch.from_dlpack(a).tolist() == a.tolist()
    np.testing.assert_array_equal(nd.from_dlpack(torch.ones(3), device).numpy(), np.ones(3))


@pytest.mark.parametrize("bad", ["text", object(), [1j], [[1], [1, 2]]])
def test_what_is_not_numeric_is_refused(bad, device):
    with pytest.raises((TypeError, ValueError)):
        nd.array(bad, device=device)


def test_unknown_dtypes_are_refused(device):
    for dtype in ("float8", "complex64", None, 3):
        with pytest.raises(TypeError):
            arange(2, device=device).astype(dtype)


def test_numpy_functions_take_ndarrays(device):
    a = arange(2, 3, device=device)
    np.testing.assert_allclose(a, np.arange(6).reshape(2, 3))
    assert [len(part) for part in np.array_split(a, 2)] == [1, 1]
    assert np.linalg.norm(a) == pytest.approx(np.sqrt(55))
    assert (np.ones((2, 3)) + a).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_make_and_views_share_a_handle(device):
    a = nd.NDArray.make((2, 3), device=device)
    a.fill(2)
    b = nd.NDArray.make((3, 2), strides=(1, 3), device=device, handle=a._handle)
    assert b._handle.ptr() == a._handle.ptr() == a[1:]._handle.ptr()
    assert b._offset == 0
    assert a[1:]._offset == 3
    b[2, 0] = 5
    assert a[0, 2].item() == 5
    with pytest.raises(ValueError, match="reaches outside"):
        nd.NDArray.make((4, 2), device=device, handle=a._handle)
    with pytest.raises(ValueError, match="differ in length"):
        nd.NDArray.make((4, 2), strides=(1,), device=device)


def test_subclasses_are_built_like_their_base(device):
    class Sub(nd.NDArray):
        pass

    a = Sub(np.ones((2, 2)))
    assert isinstance(a, Sub)
    assert (a + a).tolist() == [[2, 2], [2, 2]]


def test_devices_compare_by_name_and_create_arrays(device):
    assert device == type(device)()
    assert device != "cpu"
    assert str(device) == repr(device) == f"{device.name}()"
    assert device.zeros((2,), "int32").tolist() == [0, 0]
    assert device.ones((2,)).dtype == "float32"
    assert device.full((), 3.5).item() == 3.5
    assert device.empty((2, 3)).shape == (2, 3)
    assert device.one_hot(3, [2, 0], "float32").tolist() == [[0, 0, 1], [1, 0, 0]]
    np.random.seed(0)
    drawn = device.rand(2, 3), device.randn(4)
    np.random.seed(0)
    np.testing.assert_array_equal(drawn[0].numpy(), np.random.rand(2, 3).astype("float32"))
    np.testing.assert_array_equal(drawn[1].numpy(), np.random.randn(4).astype("float32"))


def test_cuda_says_that_it_is_not_there():
    assert not ndl.cuda().enabled()
    with pytest.raises(RuntimeError, match=r"cuda\(\)"):
        nd.array([1.0], device=ndl.cuda())


def test_devices_do_not_mix():
    if not ndl.cpu().enabled():
        pytest.skip("needs two devices")
    with pytest.raises(ValueError, match="cannot be mixed"):
        nd.array([1.0], device=ndl.cpu()) + nd.array([1.0], device=ndl.cpu_numpy())


def test_all_devices_and_the_default():
    assert [str(d) for d in nd.all_devices()] == ["cpu()", "cuda()", "cpu_numpy()"]
    assert nd.default_device().enabled()
    with pytest.raises(RuntimeError, match="not enabled"):
        nd.set_default_device(ndl.cuda())


# ---- views ------------------------------------------------------------------------------------


def test_strides_count_elements(device):
    a = arange(2, 3, 4, device=device)
    assert a.strides == (12, 4, 1)
    assert a.permute((2, 0, 1)).strides == (1, 12, 4)
    assert a[:, ::-2].strides == (12, -8, 1)
    assert a.broadcast_to((5, 2, 3, 4)).strides == (0, 12, 4, 1)


VIEWS = {
    "permute": (lambda a: a.permute((1, 2, 0)), lambda x: x.transpose(1, 2, 0)),
    "reshape": (lambda a: a.reshape((6, -1)), lambda x: x.reshape(6, -1)),
    "reshape part": (lambda a: a.permute((1, 0, 2)).reshape((3, 2, 2, 2)),
                     lambda x: x.transpose(1, 0, 2).reshape(3, 2, 2, 2)),
    "swapaxes": (lambda a: a.swapaxes(0, -1), lambda x: x.swapaxes(0, -1)),
    "transpose": (lambda a: a.T, lambda x: x.T),
    "flip": (lambda a: a.flip((0, 2)), lambda x: np.flip(x, (0, 2))),
    "slices": (lambda a: a[1:, ::-2, 1:3], lambda x: x[1:, ::-2, 1:3]),
    "int": (lambda a: a[1, -1], lambda x: x[1, -1]),
    "ellipsis and None": (lambda a: a[None, ..., 2], lambda x: x[None, ..., 2]),
    "squeeze": (lambda a: a[:1].squeeze(), lambda x: x[:1].squeeze()),
    "unsqueeze": (lambda a: a.unsqueeze(1), lambda x: x[:, None]),
    "broadcast": (lambda a: a[:, :1].broadcast_to((4, 2, 3, 4)),
                  lambda x: np.broadcast_to(x[:, :1], (4, 2, 3, 4))),
    "split": (lambda a: a.split(2, 2)[1], lambda x: np.split(x, 2, 2)[1]),
    "as_strided": (lambda a: a.as_strided((3, 2), (2, 5)),
                   lambda x: np.array([[0, 5], [2, 7], [4, 9]])),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory_and_have_numpys_values(name, device):
    view, reference = VIEWS[name]
    a = arange(2, 3, 4, device=device)
    b, x = view(a), reference(np.arange(24).reshape(2, 3, 4))
    assert b._handle is a._handle
    assert b.shape == x.shape
    np.testing.assert_array_equal(b.numpy(), x)
    assert b.is_compact() == b.compact().is_compact() or not b.is_compact()
    assert b.compact().is_compact()
    np.testing.assert_array_equal(b.compact().numpy(), x)


def test_reshape_of_what_has_no_such_view_copies_once(device):
    a = arange(2, 3, device=device)
    b = a.T.reshape((6,))
    assert b._handle is not a._handle
    assert b.tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda a: a.reshape((4, 2)), ValueError, "size|elements"),
        (lambda a: a.reshape((-1, -1)), ValueError, "-1"),
        (lambda a: a.reshape((-1, 4)), ValueError, ""),
        (lambda a: a.permute((0, 0)), ValueError, "once"),
        (lambda a: a.permute((0,)), ValueError, "axes"),
        (lambda a: a.permute((0, 5)), (ValueError, IndexError), "5"),
        (lambda a: a.broadcast_to((2, 4)), ValueError, ""),
        (lambda a: a.broadcast_to((3,)), ValueError, ""),
        (lambda a: a.squeeze(0), ValueError, "1 long"),
        (lambda a: a[5], IndexError, "5"),
        (lambda a: a[0, 0, 0], IndexError, "indices"),
        (lambda a: a["x"], (IndexError, TypeError), ""),
        (lambda a: a[1.5], (IndexError, TypeError), ""),
        (lambda a: a[[0, 7]], IndexError, "7"),
        (lambda a: a[np.array([True, False, True])], IndexError, ""),
        (lambda a: a.as_strided((3, 3), (3, 1)), ValueError, "outside"),
        (lambda a: a.as_strided((2,), (-1,)), ValueError, "outside"),
        (lambda a: a.as_strided((-1,), (1,)), ValueError, "negative"),
        (lambda a: a.sum(axis=2), (ValueError, IndexError), "2"),
        (lambda a: a.sum(axis=(0, 0)), ValueError, ""),
        (lambda a: a.split(2, 1), ValueError, "equal parts"),
        (lambda a: a.pad(((1, 1),)), ValueError, "pairs"),
        (lambda a: a.pad(((0, 0), (-1, 0))), ValueError, "non-negative"),
        (lambda a: a.tile((-1, 1)), ValueError, "negative"),
        (lambda a: a @ a, ValueError, "inner dimensions 3 and 2"),
        (lambda a: a + nd.array(np.ones((2, 2)), device=a.device), ValueError, "add"),
        (lambda a: a.item(), ValueError, "one element"),
        (lambda a: bool(a), ValueError, "ambiguous"),
        (lambda a: a + "x", TypeError, ""),
        (lambda a: a[:, :0].max(axis=1), ValueError, ""),
        (lambda a: a[:, :0].argmax(axis=1), ValueError, "no elements"),
        (lambda a: nd.concatenate([]), ValueError, "at least one"),
        (lambda a: nd.concatenate([a, a[:, :2]], 0), ValueError, "differ"),
        (lambda a: nd.stack([a, a[:, :2]]), ValueError, "equal"),
        (lambda a: a.reshape((1,) * 32 + (6,)), ValueError, "dimensions"),
        (lambda a: setattr(a, "nothing", 1), AttributeError, ""),
        (lambda a: a.__setitem__((slice(None), 5), 1), IndexError, "5"),
        (lambda a: a.__setitem__(0, np.ones(2)), ValueError, ""),
        (lambda a: range(9)[a[0, 0]], TypeError, "index"),
    ],
)  # fmt: skip
def test_mistakes_are_named(act, error, words, device):
    a = arange(2, 3, device=device)
    with pytest.raises(error, match=words or None):
        act(a)
    assert a.tolist() == [[0, 1, 2], [3, 4, 5]], "a refused call changed the array"


def test_process_slice_makes_all_parts_explicit(device):
    a = arange(6, 5, device=device)
    assert a.process_slice(slice(None), 0) == slice(0, 6, 1)
    assert a.process_slice(slice(1, -1), 1) == slice(1, 4, 1)
    assert a.process_slice(slice(None, 100, 2), 1) == slice(0, 5, 2)


def test_setitem(device):
    a, x = arange(3, 4, device=device), np.arange(12.0).reshape(3, 4)
    for key, value in (
        ((1,), 5), ((slice(None), 1), 7.5), (np.s_[::-2, 1:3], [[1, 2], [3, 4]]),
        (([0, 2], [1, 1]), -1), (np.s_[0, :2], [8, 9]), (x > 6, 0), (..., 2),
        ((0, 0), np.float64(3)),
    ):  # fmt: skip
        a[key] = nd.array(value, device=device) if isinstance(value, list) else value
        x[key] = value
        np.testing.assert_array_equal(a.numpy(), x, err_msg=str(key))


def test_setitem_of_an_overlapping_view(device):
    a = arange(6, device=device)
    a[1:] = a[:-1]
    assert a.tolist() == [0, 0, 1, 2, 3, 4]
    a[...] = a[::-1]
    assert a.tolist() == [4, 3, 2, 1, 0, 0]


def test_flat_writes_through(device):
    a = arange(2, 3, device=device)
    a.flat[4] += 1.5
    a.T.flat[1] = -1
    assert a.tolist() == [[0, 1, 2], [-1, 5.5, 5]]
    assert a.flatten().tolist() == [0, 1, 2, -1, 5.5, 5]


def test_python_protocols(device):
    a = arange(2, 3, device=device)
    assert len(a) == 2
    assert [row.tolist() for row in a] == [[0, 1, 2], [3, 4, 5]]
    assert float(a[1, 1]) == 4.0
    assert int(a[1, 1]) == 4
    assert bool(a[0, 1])
    assert range(9)[nd.array(3, "int64", device)] == 3
    with pytest.raises(TypeError):
        len(a[0, 0])


# ---- dtypes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("right", DTYPES)
def test_promotion_is_numpys_within_what_needle_has(left, right, device):
    expected = np.promote_types(left, right)
    a = nd.array([2, 1], left, device) + nd.array([1, 1], right, device)
    if {left, right} in ({"float32", "int32"}, {"float32", "int64"}):
        expected = np.dtype("float32")  # as PyTorch: an integer array never widens a float
    assert a.dtype == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_never_widen(dtype, device):
    a = nd.array([1, 0], dtype, device)
    if dtype != "bool":
        assert (a + 1).dtype == dtype
        assert (2 * a).dtype == dtype
    kept = dtype if dtype.startswith("float") else "float32"
    assert (a * 1.5).dtype == kept
    assert (1.5 - a).dtype == kept
    assert (a / 2).dtype == kept
    assert a.exp().dtype == kept
    assert a.mean().dtype == kept
    assert a.sum().dtype == (dtype if dtype.startswith("float") else "int64")
    assert (a > 0).dtype == dtype
    assert a.compare("gt", 0).dtype == "bool"
    assert a.argmax().dtype == "int64"


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_casts(source, target, device):
    x = np.array([0, 1, 3, 200]).astype(source)
    a = nd.array(x, source, device)
    np.testing.assert_array_equal(a.astype(target).numpy(), x.astype(target))
    assert (a.astype(target) is a) == (source == target)


def test_integer_arithmetic_is_numpys(device):
    x = np.array([7, -7, 5, 0], dtype="int32")
    y = np.array([2, 2, -3, 4], dtype="int32")
    a, b = nd.array(x, "int32", device), nd.array(y, "int32", device)
    for result, expected in (
        (a // b, x // y), (a % b, x % y), (a // -2, x // -2), (a % 3, x % 3), (a**2, x**2),
        (a.maximum(b), np.maximum(x, y)), (a / b, x / y), (-a, -x), (abs(a), abs(x)),
    ):  # fmt: skip
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_where_and_bools(device):
    a = arange(2, 3, device=device)
    mask = a.compare("gt", 2)
    assert nd.where(mask, a, -1).tolist() == [[-1, -1, -1], [3, 4, 5]]
    assert nd.where(mask, 0.5, a).dtype == "float32"
    assert mask.any(axis=1).tolist() == [False, True]
    assert mask.all().item() is False
    assert mask.all(axis=1).tolist() == [False, True]


def test_nan_and_infinity(device):
    x = np.array([1.0, np.nan, -np.inf, np.inf, -0.0], dtype="float32")
    a = nd.array(x, device=device)
    assert np.isnan(a.max().item())
    assert np.isnan(a.min().item())
    assert a.argmax().item() == np.argmax(x) == 1
    with np.errstate(all="ignore"):
        for name in ("exp", "log", "tanh", "sqrt", "sin"):
            np.testing.assert_allclose(
                a._unary(name).numpy(), getattr(np, name)(x), rtol=1e-6, err_msg=name
            )
    np.testing.assert_array_equal(a.maximum(0).numpy(), np.maximum(x, 0))
    assert a.argsort().tolist() == np.argsort(x, kind="stable").tolist()


# ---- the course's own functions ---------------------------------------------------------------


@pytest.mark.skipif(not ndl.cpu().enabled(), reason="tiles are the C++ device's")
def test_matmul_tiled():
    device = ndl.cpu()
    t = device.__tile_size__
    rng = np.random.RandomState(0)
    a, b = rng.randn(2 * t, 3 * t), rng.randn(3 * t, t)

    def tiles(x):
        m, n = x.shape
        return nd.array(x.reshape(m // t, t, n // t, t).swapaxes(1, 2), device=device)

    out = nd.full((2, 1, t, t), 7.0, device=device)
    device.matmul_tiled(tiles(a)._handle, tiles(b)._handle, out._handle, 2 * t, 3 * t, t)
    result = out.numpy().swapaxes(1, 2).reshape(2 * t, t)
    assert_product(result, a.astype("float32"), b.astype("float32"), "float32")
    with pytest.raises((ValueError, TypeError)):
        device.matmul_tiled(out._handle, out._handle, out._handle, 2 * t, 3 * t, t)
    with pytest.raises((ValueError, TypeError)):
        device.matmul_tiled(out._handle, out._handle, out._handle, 2 * t + 1, t, t)


def test_module_functions_are_the_methods(device):
    a = arange(2, 3, device=device)
    assert nd.broadcast_to(a, (2, 2, 3)).shape == (2, 2, 3)
    assert nd.reshape(a, (3, 2)).shape == (3, 2)
    assert nd.flip(a, (1,)).tolist() == [[2, 1, 0], [5, 4, 3]]
    assert nd.maximum(a, 2).tolist() == [[2, 2, 2], [3, 4, 5]]
    assert nd.sum(a, axis=1, keepdims=True).tolist() == [[3], [12]]
    np.testing.assert_allclose(nd.log(a + 1), np.log(np.arange(1, 7)).reshape(2, 3), rtol=1e-6)
    np.testing.assert_allclose(nd.exp(a), np.exp(np.arange(6)).reshape(2, 3), rtol=1e-6)
    np.testing.assert_allclose(nd.tanh(a), np.tanh(np.arange(6)).reshape(2, 3), rtol=1e-6)
    assert nd.full((2,), 3, device=device).tolist() == [3, 3]
    assert nd.empty((2, 2), device=device).shape == (2, 2)
    assert a.pad(((0, 1), (1, 0))).tolist() == [[0, 0, 1, 2], [0, 3, 4, 5], [0, 0, 0, 0]]
    assert a.tile((1, 2)).tolist() == [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]


LAYOUTS = {
    "one number": np.array(1e300),
    "none": np.zeros((0, 3)),
    "large": np.array([[1e300, -1e300, np.nan], [0.1, -0.0, 1e-300]]),
    "transposed": np.linspace(0, 1, 12).reshape(3, 4).T,
    "read-only": np.broadcast_to(np.float64(1.5), (2, 2)),
    "bytes": np.frombuffer(np.linspace(0, 1, 5).tobytes()),
    "other byte order": np.linspace(0, 1, 5).astype(">f8"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", LAYOUTS)
def test_float64_arrays_become_float32(name, device):
    host = LAYOUTS[name]
    with np.errstate(over="ignore"):
        expected = np.ascontiguousarray(host).reshape(host.shape).astype(np.float32)
    found = nd.NDArray(host, device=device)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert found.is_compact()
