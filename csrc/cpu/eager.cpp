// eager.cpp: how an op is called eagerly: read the inputs' arrays, compute, record the result.
//
// The definition is `TensorOp.apply`, in Python. The function here does the same if there is
// nothing else to be done: no function is traced, nothing observes the ops, no input is converted.
// In all other cases it calls `apply`. An op of ten elements takes 50 ns in its kernel and some
// hundred in each Python function around it; benchmarks/overhead.py measures them.
#include "eager.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "checks.h"
#include "kernels.h"
#include "names.h"
#include "ndarray.h"
#include "views.h"

namespace needle {

namespace {

// ---- the state of needle.autograd ---------------------------------------------------------------

struct Autograd {
  PyTypeObject* tensor = nullptr;
  Py_ssize_t alive, op, inputs, data, requires_grad, grad, created, modified;
  PyObject *alive_mark, *traces, *recorders, *versions, *modes, *observing, *thread_modes,
      *explain_error;
} autograd;

PyObject* name_of(const char* text) { return PyUnicode_InternFromString(text); }

struct Names {
  PyObject *now = name_of("now"), *lazy = name_of("LAZY_MODE"), *observers = name_of("observers"),
           *recording = name_of("recording"), *autocast = name_of("autocast"),
           *precision = name_of("precision"), *direct = name_of("direct"),
           *compute = name_of("compute"), *apply = name_of("apply"), *axes = name_of("axes"),
           *keepdims = name_of("keepdims"), *scalar = name_of("scalar"), *shape = name_of("shape"),
           *key = name_of("key");
};

const Names& names() {
  static const Names all;
  return all;
}

bool is_float_dtype(PyObject* dtype) {
  return dtype == registered.dtypes[static_cast<int>(DType::Float32)] ||
         dtype == registered.dtypes[static_cast<int>(DType::Float64)] ||
         dtype == registered.dtypes[static_cast<int>(DType::Float16)] ||
         dtype == registered.dtypes[static_cast<int>(DType::BFloat16)];
}

// Whether nothing follows the ops: no trace, no observer, and data are not computed later.
bool is_plain() {
  if (autograd.tensor == nullptr || PyDict_GET_SIZE(autograd.traces) != 0) return false;
  PyObject* observers = PyDict_GetItemWithError(autograd.observing, names().observers);
  if (observers == nullptr || !PyTuple_Check(observers) || PyTuple_GET_SIZE(observers) != 0)
    return false;
  return PyDict_GetItemWithError(autograd.modes, names().lazy) == Py_False;
}

// An attribute of the thread's modes; new reference.
nb::object thread_mode(PyObject* name) {
  nb::object value = nb::steal(PyObject_GetAttr(autograd.thread_modes, name));
  if (!value.is_valid()) throw nb::python_error();
  return value;
}

PyObject* class_attribute(PyObject* op, PyObject* name) {
  PyObject* value = _PyType_Lookup(Py_TYPE(op), name);  // borrowed, from the type's cache
  return value == Py_None ? nullptr : value;
}

// ---- results ------------------------------------------------------------------------------------

void compact_strides(View& v) {
  int64_t step = 1;
  for (int axis = v.ndim; axis-- > 0;) {
    v.strides[axis] = step;
    step *= v.shape[axis];
  }
}

// Whether the elements fill their memory without gaps, the axes in whatever order.
bool is_dense(const View& v) {
  int order[MAX_DIMS], count = 0;
  for (int axis = v.ndim; axis-- > 0;) {
    if (v.shape[axis] != 1) order[count++] = axis;
  }
  std::sort(order, order + count, [&](int a, int b) { return v.strides[a] < v.strides[b]; });
  int64_t expected = 1;
  for (int i = 0; i < count; ++i) {
    if (v.strides[order[i]] != expected) return false;
    expected *= v.shape[order[i]];
  }
  return true;
}

// A new array with the layout of `view`, whose data pointer is set.
nb::object new_array(View& view, nb::handle shape, nb::handle strides) {
  nb::object array = new_ndarray(shape, strides, size_of(view), view.dtype);
  view.data = static_cast<char*>(buffer_of(field(array.ptr(), registered.handle))->data);
  return array;
}

nb::object new_compact(View& view) {
  compact_strides(view);
  return new_array(view, int_tuple(view.shape, view.ndim), int_tuple(view.strides, view.ndim));
}

// A new array like `x`, in its memory order where that is dense, as NDArray._empty_like.
nb::object new_like(PyObject* x, const View& v, View& out) {
  out = v;
  nb::handle shape = field(x, registered.shape);
  if (is_dense(v)) return new_array(out, shape, field(x, registered.strides));
  compact_strides(out);
  return new_array(out, shape, int_tuple(out.strides, out.ndim));
}

// ---- kernels ------------------------------------------------------------------------------------

// The View of an array of floats on cpu(), not empty. The kernels here take no other.
bool take(PyObject* x, Array& v) {
  if (Py_TYPE(x) != registered.ndarray) return false;
  PyObject* handle = field(x, registered.handle);
  if (handle == nullptr || buffer_of(handle) == nullptr) return false;
  v = view_of(x);
  return is_float(v.dtype) && size_of(v) > 0;
}

// The common shape of two arrays, by NumPy's rule of broadcasting; false if there is none, or
// if it is too large.
bool common_shape(const View& a, const View& b, View& out) {
  out.ndim = std::max(a.ndim, b.ndim);
  int64_t elements = 1;
  for (int axis = 0; axis < out.ndim; ++axis) {
    const int in_a = axis - (out.ndim - a.ndim), in_b = axis - (out.ndim - b.ndim);
    const int64_t m = in_a < 0 ? 1 : a.shape[in_a], n = in_b < 0 ? 1 : b.shape[in_b];
    if (m != n && m != 1 && n != 1) return false;
    out.shape[axis] = std::max(m, n);
    elements = times(elements, out.shape[axis]);
  }
  return elements <= MAX_ELEMENTS;
}

// Gives `v` the strides under which it reads as an array of the shape of `target`.
void broadcast(View& v, const View& target) {
  const int lead = target.ndim - v.ndim;
  for (int axis = target.ndim; axis-- > 0;) {
    const bool repeats = axis < lead || v.shape[axis - lead] != target.shape[axis];
    v.strides[axis] = repeats ? 0 : v.strides[axis - lead];
  }
  std::copy(target.shape, target.shape + target.ndim, v.shape);
  v.ndim = target.ndim;
}

// The functions below give the result of `compute`, or an invalid object if `compute` has to decide
// something: operands of two dtypes, an error.

nb::object unary(UnaryOp op, PyObject* x) {
  Array a;
  View out;
  if (!take(x, a)) return {};
  nb::object result = new_like(x, a, out);
  run(size_of(a), [&] { kernels().unary(op, a, out); });
  return result;
}

nb::object binary(BinaryOp op, PyObject* x, PyObject* y) {
  Array a, b;
  View out;
  if (!take(x, a) || !take(y, b) || a.dtype != b.dtype) return {};
  nb::object result;
  if (has_shape(b, a.shape, a.ndim)) {
    result = new_like(x, a, out);
  } else {
    if (!common_shape(a, b, out)) return {};
    broadcast(a, out);
    broadcast(b, out);
    out = a;
    if (!is_dense(out)) compact_strides(out);
    result = new_array(out, int_tuple(out.shape, out.ndim), int_tuple(out.strides, out.ndim));
  }
  run(size_of(out), [&] { kernels().binary(op, a, b, out); });
  return result;
}

nb::object binary_scalar(BinaryOp op, PyObject* x, PyObject* number, bool reverse) {
  Array a;
  View out;
  double value;
  if (PyFloat_CheckExact(number)) {
    value = PyFloat_AS_DOUBLE(number);
  } else if (PyLong_CheckExact(number)) {
    int overflow = 0;
    const int64_t whole = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow) return {};
    value = static_cast<double>(whole);
  } else {
    return {};
  }
  if (!take(x, a)) return {};
  nb::object result = new_like(x, a, out);
  const bool fits = value >= -0x1p63 && value < 0x1p63;
  const Scalar scalar{value, fits ? static_cast<int64_t>(value) : INT64_MIN};
  run(size_of(a), [&] { kernels().binary_scalar(op, a, scalar, out, reverse); });
  return result;
}

// Over all axes or over one.
nb::object reduce(ReduceOp op, PyObject* x, PyObject* axes, PyObject* keepdims) {
  Array a;
  if (keepdims != Py_False || !take(x, a) || a.ndim == 0) return {};
  unsigned mask = (a.ndim == 32 ? 0 : 1u << a.ndim) - 1;
  int dropped = -1;
  if (PyLong_CheckExact(axes)) {
    const long axis = PyLong_AsLong(axes);
    if (PyErr_Occurred()) PyErr_Clear();
    if (axis < -a.ndim || axis >= a.ndim) return {};
    dropped = static_cast<int>(axis < 0 ? axis + a.ndim : axis);
    mask = 1u << dropped;
  } else if (axes != Py_None) {
    return {};
  }
  View reduced;
  reduced.dtype = a.dtype;
  reduced.ndim = 0;
  for (int axis = 0; axis < a.ndim; ++axis) {
    if (!(mask >> axis & 1)) reduced.shape[reduced.ndim++] = a.shape[axis];
  }
  nb::object result = new_compact(reduced);
  View out = a;  // the same elements, with the axes kept
  out.data = reduced.data;
  for (int axis = 0; axis < a.ndim; ++axis) {
    if (mask >> axis & 1) out.shape[axis] = 1;
  }
  compact_strides(out);
  run(size_of(a), [&] { kernels().reduce(op, a, mask, out); });
  return result;
}

// a (m, k) @ b (k, n), plus a bias of n elements.
nb::object matmul(PyObject* x, PyObject* y, PyObject* bias) {
  Array a, b, row;
  if (!take(x, a) || !take(y, b) || a.dtype != b.dtype || a.ndim != 2 || b.ndim != 2 ||
      a.shape[1] != b.shape[0])
    return {};
  if (bias != nullptr) {
    if (!take(bias, row) || row.dtype != a.dtype || row.ndim > 2 || size_of(row) != b.shape[1])
      return {};
    if (row.ndim == 2 && row.shape[0] == 1) {  // (1, n)
      row.shape[0] = row.shape[1];
      row.strides[0] = row.strides[1];
      row.ndim = 1;
    }
    if (row.ndim != 1) return {};
  }
  View out;
  out.dtype = a.dtype;
  out.ndim = 2;
  out.shape[0] = a.shape[0];
  out.shape[1] = b.shape[1];
  nb::object result = new_compact(out);
  run(times(size_of(out), a.shape[1]) / 8,
      [&] { kernels().matmul(a, b, out, bias == nullptr ? nullptr : &row); });
  return result;
}

// ---- which kernel an op is ----------------------------------------------------------------------

// The number of a kernel is made of a kind and an operation of that kind.
enum class Kind {
  Unary,
  Binary,
  Scalar,
  ReflectedScalar,
  Reduce,
  MatMul,
  Linear,
  Reshape,
  Swap,
  Permute,
  Broadcast,
  Index
};
constexpr int64_t KINDS = 16;

nb::object view_of_kind(Kind kind, nb::handle x, nb::handle argument) {
  switch (kind) {
    case Kind::Reshape:
      return reshape_view(x, argument);
    case Kind::Broadcast:
      return broadcast_view(x, argument);
    case Kind::Swap:
      return swap_view(x, argument);
    case Kind::Permute:
      return permute_view(x, argument);
    case Kind::Index:
      return index_view(x, argument);
    default:
      return {};
  }
}

nb::object compute_directly(PyObject* op, int64_t direct, PyObject* const* data, Py_ssize_t count) {
  const auto attribute = [&](PyObject* name) {
    nb::object value = nb::steal(PyObject_GetAttr(op, name));
    if (!value.is_valid()) throw nb::python_error();
    return value;
  };
  const int64_t code = direct / KINDS;
  const Kind kind = static_cast<Kind>(direct % KINDS);
  const Py_ssize_t wanted = kind == Kind::Linear                           ? 3
                            : kind == Kind::Binary || kind == Kind::MatMul ? 2
                                                                           : 1;
  if (count != wanted) return {};
  switch (kind) {
    case Kind::Unary:
      return unary(static_cast<UnaryOp>(code), data[0]);
    case Kind::Binary:
      return binary(static_cast<BinaryOp>(code), data[0], data[1]);
    case Kind::Scalar:
    case Kind::ReflectedScalar:
      return binary_scalar(static_cast<BinaryOp>(code), data[0], attribute(names().scalar).ptr(),
                           kind == Kind::ReflectedScalar);
    case Kind::Reduce:
      return reduce(static_cast<ReduceOp>(code), data[0], attribute(names().axes).ptr(),
                    attribute(names().keepdims).ptr());
    case Kind::MatMul:
      return matmul(data[0], data[1], nullptr);
    case Kind::Linear:
      return matmul(data[0], data[1], data[2]);
    case Kind::Reshape:
    case Kind::Broadcast:
      return view_of_kind(kind, data[0], attribute(names().shape));
    case Kind::Swap:
    case Kind::Permute:
      return view_of_kind(kind, data[0], attribute(names().axes));
    case Kind::Index:
      return view_of_kind(kind, data[0], attribute(names().key));
  }
  return {};
}

// The kernel of a class of ops, or -1. `direct` is a pair of the function `compute` that the kernel
// stands for, and the kernel's number: it does not count for a class with another `compute`.
int64_t direct_of(PyTypeObject* type) {
  PyObject* pair = _PyType_Lookup(type, names().direct);
  if (pair == nullptr || !PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) return -1;
  if (_PyType_Lookup(type, names().compute) != PyTuple_GET_ITEM(pair, 0)) return -1;
  return PyLong_AsLongLong(PyTuple_GET_ITEM(pair, 1));
}

// ---- the call -----------------------------------------------------------------------------------

constexpr Py_ssize_t MOST_INPUTS = 8;

nb::object apply(PyObject* op, PyObject* args) {
  nb::object result = nb::steal(PyObject_GetAttr(op, names().apply));
  if (result.is_valid()) result = nb::steal(PyObject_CallObject(result.ptr(), args));
  if (!result.is_valid()) throw nb::python_error();
  return result;
}

// A Tensor, as Value._init sets it.
nb::object new_tensor(PyObject* op, PyObject* inputs, PyObject* data, bool is_recorded) {
  nb::object tensor = nb::steal(autograd.tensor->tp_alloc(autograd.tensor, 0));
  PyObject* now = PyDict_GetItemWithError(autograd.versions, names().now);
  if (!tensor.is_valid() || now == nullptr) throw nb::python_error();
  static PyObject* const nothing = PyTuple_New(0);
  static PyObject* const zero = PyLong_FromLong(0);
  const auto set = [&](Py_ssize_t offset, PyObject* value) {
    field(tensor.ptr(), offset) = Py_NewRef(value);
  };
  set(autograd.alive, autograd.alive_mark);
  set(autograd.op, is_recorded ? op : Py_None);
  set(autograd.inputs, is_recorded ? inputs : nothing);
  set(autograd.data, data);
  set(autograd.requires_grad, is_recorded ? Py_True : Py_False);
  set(autograd.grad, Py_None);
  set(autograd.created, now);
  set(autograd.modified, zero);
  return tensor;
}

bool is_true(PyObject* object) { return object == Py_True; }

nb::object call_checked(PyObject* op, PyObject* args) {
  const Py_ssize_t count = PyTuple_GET_SIZE(args);
  if (count > MOST_INPUTS || !is_plain()) return apply(op, args);
  PyObject* data[MOST_INPUTS + 1];  // borrowed: `args` keeps the Tensors, which keep these
  nb::object kept[MOST_INPUTS];
  bool any_requires = false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* x = PyTuple_GET_ITEM(args, i);
    if (!PyObject_TypeCheck(x, autograd.tensor)) return apply(op, args);
    kept[i] = nb::borrow(field(x, autograd.data));
    data[i + 1] = kept[i].ptr();
    if (data[i + 1] == nullptr || !is_ndarray(data[i + 1])) return apply(op, args);
    any_requires = any_requires || is_true(field(x, autograd.requires_grad));
  }
  if (class_attribute(op, names().precision) != nullptr) {
    for (Py_ssize_t i = 1; i <= count; ++i) {
      PyObject* dtype = field(data[i], registered.dtype);
      if (dtype != registered.dtypes[static_cast<int>(DType::Float32)] &&
          dtype != registered.dtypes[static_cast<int>(DType::Float64)])
        return apply(op, args);
    }
    if (!thread_mode(names().autocast).is_none()) return apply(op, args);
  }
  const bool is_recorded = any_requires && is_true(thread_mode(names().recording).ptr());
  nb::object result;
  const int64_t direct = direct_of(Py_TYPE(op));
  if (direct >= 0 && PyDict_GET_SIZE(autograd.recorders) == 0)
    result = compute_directly(op, direct, data + 1, count);
  if (!result.is_valid()) {
    data[0] = op;
    result = nb::steal(PyObject_VectorcallMethod(names().compute, data, count + 1, nullptr));
    if (!result.is_valid()) throw nb::python_error();
    if (!is_ndarray(result)) return apply(op, args);
  }
  const bool keeps = is_recorded && is_float_dtype(field(result.ptr(), registered.dtype));
  return new_tensor(op, args, result.ptr(), keeps);
}

// An error of an op says first which input was none, or was elsewhere.
nb::object call_explained(PyObject* op, PyObject* args) {
  try {
    return call_checked(op, args);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_AttributeError) && !error.matches(PyExc_ValueError)) throw;
    nb::handle(autograd.explain_error)(nb::handle(op), nb::handle(args));
    throw;
  }
}

PyObject* call(PyObject* op, PyObject* args, PyObject* options) {
  try {
    if (options != nullptr && PyDict_GET_SIZE(options) != 0) {
      PyErr_SetString(PyExc_TypeError, "an op takes its inputs by position");
      return nullptr;
    }
    return (autograd.tensor == nullptr ? apply(op, args) : call_explained(op, args))
        .release()
        .ptr();
  } catch (nb::python_error& error) {
    error.restore();
  } catch (const std::bad_alloc& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  }
  return nullptr;
}

PyType_Slot CALL_SLOTS[] = {{Py_tp_call, reinterpret_cast<void*>(call)}, {0, nullptr}};
PyType_Spec CALL_SPEC = {"needle._core.EagerCall", sizeof(PyObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, CALL_SLOTS};

}  // namespace

nb::object eager_view(nb::handle op_class, nb::handle x, nb::handle argument) {
  const int64_t direct = PyType_Check(op_class.ptr())
                             ? direct_of(reinterpret_cast<PyTypeObject*>(op_class.ptr()))
                             : -1;
  if (direct < 0 || !is_plain() || !PyObject_TypeCheck(x.ptr(), autograd.tensor)) return nb::none();
  const nb::object data = nb::borrow(field(x.ptr(), autograd.data));
  if (!data.is_valid() || !is_ndarray(data)) return nb::none();
  const Kind kind = static_cast<Kind>(direct % KINDS);
  nb::object wanted = nb::borrow(argument);
  if (kind == Kind::Reshape) {
    wanted = resolved_shape(data, argument);
    if (!wanted.is_valid()) return nb::none();
    if (wanted.equal(nb::handle(field(data.ptr(), registered.shape)))) return nb::borrow(x);
  }
  const nb::object result = view_of_kind(kind, data, wanted);
  if (!result.is_valid()) return nb::none();
  const bool is_recorded = is_true(field(x.ptr(), autograd.requires_grad)) &&
                           is_true(thread_mode(names().recording).ptr());
  if (!is_recorded) return new_tensor(Py_None, Py_None, result.ptr(), false);
  const nb::object op = op_class(wanted);
  const nb::object inputs = nb::steal(PyTuple_Pack(1, x.ptr()));
  if (!inputs.is_valid()) throw nb::python_error();
  return new_tensor(op.ptr(), inputs.ptr(), result.ptr(), true);
}

void register_eager_call(nb::module_ module) {
  nb::object type = nb::steal(PyType_FromSpec(&CALL_SPEC));
  if (!type.is_valid()) throw nb::python_error();
  module.attr("EagerCall") = type;
}

void register_autograd(nb::handle tensor, nb::dict modes) {
  autograd.alive = slot_offset(tensor, "_alive");
  autograd.op = slot_offset(tensor, "op");
  autograd.inputs = slot_offset(tensor, "inputs");
  autograd.data = slot_offset(tensor, "cached_data");
  autograd.requires_grad = slot_offset(tensor, "requires_grad");
  autograd.grad = slot_offset(tensor, "_grad");
  autograd.created = slot_offset(tensor, "_created");
  autograd.modified = slot_offset(tensor, "_modified");
  const auto keep = [&](const char* name) { return nb::object(modes[name]).release().ptr(); };
  autograd.alive_mark = keep("alive");
  autograd.thread_modes = keep("thread");
  autograd.explain_error = keep("explain_error");
  for (auto [name, to] : {std::pair{"traces", &autograd.traces},
                          {"recorders", &autograd.recorders},
                          {"versions", &autograd.versions},
                          {"modes", &autograd.modes},
                          {"observing", &autograd.observing}}) {
    *to = keep(name);
    if (!PyDict_Check(*to)) throw nb::type_error("[register_autograd] needs dicts");
  }
  autograd.tensor = reinterpret_cast<PyTypeObject*>(nb::borrow(tensor).release().ptr());
}

int64_t direct_kernel(const char* kind, nb::handle name) {
  const auto number = [](Kind of, int64_t code) { return code * KINDS + static_cast<int64_t>(of); };
  const std::string text = kind;
  if (text == "unary")
    return number(Kind::Unary, static_cast<int64_t>(find_op(UNARY_OPS, name, kind)));
  if (text == "reduce")
    return number(Kind::Reduce, static_cast<int64_t>(find_op(REDUCE_OPS, name, kind)));
  if (text == "matmul") return number(Kind::MatMul, 0);
  if (text == "linear") return number(Kind::Linear, 0);
  if (text == "reshape") return number(Kind::Reshape, 0);
  if (text == "swapaxes") return number(Kind::Swap, 0);
  if (text == "permute") return number(Kind::Permute, 0);
  if (text == "broadcast") return number(Kind::Broadcast, 0);
  if (text == "getitem") return number(Kind::Index, 0);
  const auto code = static_cast<int64_t>(find_op(BINARY_OPS, name, kind));
  if (text == "binary") return number(Kind::Binary, code);
  if (text == "scalar") return number(Kind::Scalar, code);
  if (text == "reflected scalar") return number(Kind::ReflectedScalar, code);
  throw nb::value_error("[direct_kernel] there is no such kind");
}

}  // namespace needle
