#include "views.h"

#include <algorithm>
#include <utility>

#include "ndarray.h"

namespace needle {

namespace {

// Shape and strides of an array of any device. `offset` is in elements, as the strides.
struct Layout {
  int ndim = 0;
  int64_t shape[MAX_DIMS], strides[MAX_DIMS];
  int64_t offset = 0;

  bool add(int64_t length, int64_t stride) {
    if (ndim == MAX_DIMS) return false;
    shape[ndim] = length;
    strides[ndim++] = stride;
    return true;
  }
};

bool read(nb::handle x, Layout& layout) {
  if (Py_TYPE(x.ptr()) != registered.ndarray) return false;
  for (const Py_ssize_t offset : {registered.shape, registered.strides, registered.offset}) {
    if (field(x.ptr(), offset) == nullptr) return false;
  }
  layout.ndim = read_ints(field(x.ptr(), registered.shape), layout.shape);
  if (layout.ndim < 0 ||
      read_ints(field(x.ptr(), registered.strides), layout.strides) != layout.ndim)
    throw nb::python_error();
  layout.offset = PyLong_AsLongLong(field(x.ptr(), registered.offset));
  if (layout.offset == -1 && PyErr_Occurred()) throw nb::python_error();
  return true;
}

int64_t elements(const Layout& x) {
  int64_t n = 1;
  for (int axis = 0; axis < x.ndim; ++axis) n *= x.shape[axis];
  return n;
}

bool is_compact(const Layout& x) {
  int64_t expected = 1;
  for (int axis = x.ndim; axis-- > 0;) {
    if (x.shape[axis] != 1 && x.strides[axis] != expected) return false;
    expected *= x.shape[axis];
  }
  return true;
}

nb::object view(nb::handle x, const Layout& layout, nb::object shape = {}) {
  if (!shape.is_valid()) shape = int_tuple(layout.shape, layout.ndim);
  nb::object strides = int_tuple(layout.strides, layout.ndim);
  nb::object offset = nb::steal(PyLong_FromLongLong(layout.offset));
  nb::object array = nb::steal(registered.ndarray->tp_alloc(registered.ndarray, 0));
  if (!offset.is_valid() || !array.is_valid()) throw nb::python_error();
  field(array.ptr(), registered.shape) = shape.release().ptr();
  field(array.ptr(), registered.strides) = strides.release().ptr();
  field(array.ptr(), registered.offset) = offset.release().ptr();
  for (const Py_ssize_t same : {registered.handle, registered.device, registered.dtype})
    field(array.ptr(), same) = Py_XNewRef(field(x.ptr(), same));
  return array;
}

// A tuple of Python's own integers.
bool ints_of(nb::handle tuple, int64_t (&out)[MAX_DIMS], int& count) {
  if (!PyTuple_CheckExact(tuple.ptr()) || PyTuple_GET_SIZE(tuple.ptr()) > MAX_DIMS) return false;
  count = static_cast<int>(PyTuple_GET_SIZE(tuple.ptr()));
  for (int i = 0; i < count; ++i) {
    PyObject* item = PyTuple_GET_ITEM(tuple.ptr(), i);
    int overflow = 0;
    if (!PyLong_CheckExact(item)) return false;
    out[i] = PyLong_AsLongLongAndOverflow(item, &overflow);
    if (overflow || out[i] > MAX_ELEMENTS || out[i] < -MAX_ELEMENTS) return false;
  }
  return true;
}

bool as_axis(int64_t& axis, int ndim) {
  if (axis < -ndim || axis >= ndim) return false;
  if (axis < 0) axis += ndim;
  return true;
}

bool add_index(nb::handle item, Layout& from, int axis, Layout& to) {
  const int64_t length = from.shape[axis], stride = from.strides[axis];
  if (PyLong_CheckExact(item.ptr())) {
    int overflow = 0;
    int64_t i = PyLong_AsLongLongAndOverflow(item.ptr(), &overflow);
    if (overflow || i < -length || i >= length) return false;
    to.offset += (i < 0 ? i + length : i) * stride;
    return true;
  }
  Py_ssize_t start, stop, step;
  if (!PySlice_Check(item.ptr())) return false;
  if (PySlice_Unpack(item.ptr(), &start, &stop, &step) < 0) throw nb::python_error();
  const Py_ssize_t count = PySlice_AdjustIndices(length, &start, &stop, step);
  if (count > 0) to.offset += start * stride;
  return to.add(count, count > 1 ? stride * step : stride);
}

}  // namespace

nb::object resolved_shape(nb::handle x, nb::handle given) {
  Layout layout;
  int64_t shape[MAX_DIMS];
  int count = 0, unknown = -1;
  if (PyTuple_CheckExact(given.ptr()) && PyTuple_GET_SIZE(given.ptr()) == 1 &&
      PyTuple_CheckExact(PyTuple_GET_ITEM(given.ptr(), 0)))
    given = PyTuple_GET_ITEM(given.ptr(), 0);
  if (!read(x, layout) || !ints_of(given, shape, count)) return {};
  int64_t known = 1;
  for (int i = 0; i < count; ++i) {
    if (shape[i] == -1 && unknown < 0) {
      unknown = i;
    } else if (shape[i] <= 0 || __builtin_mul_overflow(known, shape[i], &known)) {
      return {};
    }
  }
  const int64_t size = elements(layout);
  if (unknown < 0) return size == known ? nb::borrow(given) : nb::object();
  if (size % known != 0) return {};
  shape[unknown] = size / known;
  return size == 0 ? nb::object() : int_tuple(shape, count);
}

nb::object reshape_view(nb::handle x, nb::handle shape) {
  Layout from, to;
  if (!read(x, from) || !ints_of(shape, to.shape, to.ndim) || !is_compact(from)) return {};
  int64_t step = 1;
  for (int axis = to.ndim; axis-- > 0;) {
    if (to.shape[axis] <= 0) return {};
    to.strides[axis] = step;
    if (__builtin_mul_overflow(step, to.shape[axis], &step)) return {};
  }
  if (step != elements(from)) return {};
  to.offset = from.offset;
  return view(x, to, nb::borrow(shape));
}

nb::object swap_view(nb::handle x, nb::handle axes) {
  Layout layout;
  int64_t pair[MAX_DIMS] = {-2, -1};
  int count = 2;
  if (!read(x, layout) || (!axes.is_none() && !ints_of(axes, pair, count))) return {};
  if (count != 2 || !as_axis(pair[0], layout.ndim) || !as_axis(pair[1], layout.ndim)) return {};
  std::swap(layout.shape[pair[0]], layout.shape[pair[1]]);
  std::swap(layout.strides[pair[0]], layout.strides[pair[1]]);
  return view(x, layout);
}

nb::object permute_view(nb::handle x, nb::handle order) {
  Layout from, to;
  int64_t axes[MAX_DIMS];
  int count = 0;
  if (!read(x, from) || !ints_of(order, axes, count) || count != from.ndim) return {};
  unsigned named = 0;
  to.offset = from.offset;
  for (int i = 0; i < count; ++i) {
    if (axes[i] < 0 || axes[i] >= count || named >> axes[i] & 1) return {};
    named |= 1u << axes[i];
    to.add(from.shape[axes[i]], from.strides[axes[i]]);
  }
  return view(x, to);
}

nb::object broadcast_view(nb::handle x, nb::handle shape) {
  Layout from, to;
  if (!read(x, from) || !ints_of(shape, to.shape, to.ndim) || to.ndim < from.ndim) return {};
  const int lead = to.ndim - from.ndim;
  int64_t size = 1;
  for (int axis = 0; axis < to.ndim; ++axis) {
    const int64_t length = axis < lead ? 1 : from.shape[axis - lead];
    if (to.shape[axis] <= 0 || (length != to.shape[axis] && length != 1)) return {};
    if (__builtin_mul_overflow(size, to.shape[axis], &size) || size > MAX_ELEMENTS) return {};
    to.strides[axis] = axis >= lead && length == to.shape[axis] ? from.strides[axis - lead] : 0;
  }
  to.offset = from.offset;
  return view(x, to, nb::borrow(shape));
}

nb::object index_view(nb::handle x, nb::handle key) {
  Layout from, to;
  if (!read(x, from)) return {};
  to.offset = from.offset;
  PyObject* const single[] = {key.ptr()};
  const bool is_tuple = PyTuple_CheckExact(key.ptr());
  const Py_ssize_t count = is_tuple ? PyTuple_GET_SIZE(key.ptr()) : 1;
  const auto item = [&](Py_ssize_t i) {
    return is_tuple ? PyTuple_GET_ITEM(key.ptr(), i) : single[0];
  };
  Py_ssize_t used = 0, dots = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    dots += item(i) == Py_Ellipsis;
    used += item(i) != Py_Ellipsis && item(i) != Py_None;
  }
  if (used > from.ndim || dots > 1) return {};
  int axis = 0;
  const auto skip = [&](int64_t axes) {
    for (; axes-- > 0; ++axis) {
      if (!to.add(from.shape[axis], from.strides[axis])) return false;
    }
    return true;
  };
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (item(i) == Py_None) {
      if (!to.add(1, 0)) return {};
    } else if (item(i) == Py_Ellipsis) {
      if (!skip(from.ndim - used)) return {};
    } else if (!add_index(item(i), from, axis++, to)) {
      return {};
    }
  }
  return skip(from.ndim - axis) ? view(x, to) : nb::object();
}

}  // namespace needle
