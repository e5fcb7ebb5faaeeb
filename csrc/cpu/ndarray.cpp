#include "ndarray.h"

#include <structmember.h>

#include <string>

namespace needle {

namespace {

PyObject* slot(PyObject* array, Py_ssize_t offset) {
  PyObject* value = field(array, offset);
  if (value == nullptr) throw nb::type_error("an NDArray was used before it was initialized");
  return value;
}

}  // namespace

Registered registered;

void collect_garbage() { PyGC_Collect(); }

Py_ssize_t slot_offset(nb::handle type, const char* name) {
  nb::object descriptor = type.attr(name);
  if (Py_TYPE(descriptor.ptr()) != &PyMemberDescr_Type) {
    throw nb::type_error("[register] the type must keep its fields in __slots__");
  }
  return reinterpret_cast<PyMemberDescrObject*>(descriptor.ptr())->d_member->offset;
}

void register_types(nb::handle ndarray, nb::list dtypes, nb::handle device) {
  if (dtypes.size() != DTYPE_COUNT)
    throw nb::value_error("[register] needs one dtype for each of DType");
  if (registered.ndarray != nullptr) return;  // a copy of the device, as unpickling makes
  registered.shape = slot_offset(ndarray, "_shape");
  registered.strides = slot_offset(ndarray, "_strides");
  registered.offset = slot_offset(ndarray, "_offset");
  registered.handle = slot_offset(ndarray, "_handle");
  registered.device = slot_offset(ndarray, "_device");
  registered.dtype = slot_offset(ndarray, "_dtype");
  for (int i = 0; i < DTYPE_COUNT; ++i) {
    registered.dtypes[i] = nb::object(dtypes[i]).release().ptr();
  }
  registered.cpu = nb::borrow(device).release().ptr();
  registered.ndarray = reinterpret_cast<PyTypeObject*>(nb::borrow(ndarray).release().ptr());
}

DType dtype_of(nb::handle dtype) {
  for (int i = 0; i < DTYPE_COUNT; ++i) {
    if (registered.dtypes[i] == dtype.ptr()) return static_cast<DType>(i);
  }
  for (int i = 0; i < DTYPE_COUNT; ++i) {  // an equal one, as from an unpickled array
    if (nb::handle(registered.dtypes[i]).equal(dtype)) return static_cast<DType>(i);
  }
  throw nb::type_error("dtype must be one of the dtypes in needle.backend_ndarray.DTYPES");
}

bool is_ndarray(nb::handle object) {
  return registered.ndarray != nullptr && PyObject_TypeCheck(object.ptr(), registered.ndarray);
}

Buffer* buffer_of(PyObject* handle) {
  static const PyObject* type = nb::type<Buffer>().ptr();
  // Buffer is final, so an object of another type is none.
  return reinterpret_cast<PyObject*>(Py_TYPE(handle)) == type ? nb::inst_ptr<Buffer>(handle)
                                                              : nullptr;
}

int read_ints(PyObject* tuple, int64_t (&out)[MAX_DIMS]) {
  if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) > MAX_DIMS) {
    throw nb::value_error("an NDArray's shape and strides must be tuples of at most 8 integers");
  }
  const int n = static_cast<int>(PyTuple_GET_SIZE(tuple));
  for (int i = 0; i < n; ++i) out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
  return n;
}

View view_of(nb::handle array) {
  if (!is_ndarray(array)) {
    throw nb::type_error(
        (std::string("expected an NDArray, got ") + Py_TYPE(array.ptr())->tp_name).c_str());
  }
  View view;
  view.ndim = read_ints(slot(array.ptr(), registered.shape), view.shape);
  if (read_ints(slot(array.ptr(), registered.strides), view.strides) != view.ndim) {
    throw nb::value_error("an NDArray's shape and strides differ in length");
  }
  const Buffer* buffer = buffer_of(slot(array.ptr(), registered.handle));
  if (buffer == nullptr) {
    throw nb::value_error(
        "an array of another device was given to cpu() (move it with .to(cpu())), or it was made "
        "inside a function compiled by jit and did not leave it through its return value");
  }
  const int64_t offset = PyLong_AsLongLong(slot(array.ptr(), registered.offset));
  if (PyErr_Occurred()) throw nb::python_error();
  view.dtype = buffer->dtype;
  view.data = static_cast<char*>(buffer->data) + offset * item_size(view.dtype);
  return view;
}

int64_t size_of(const View& view) {
  int64_t n = 1;
  for (int axis = 0; axis < view.ndim; ++axis) n *= view.shape[axis];
  return n;
}

nb::object new_ndarray(nb::handle shape, nb::handle strides, int64_t size, DType dtype) {
  nb::object handle = nb::cast(new Buffer(size, dtype), nb::rv_policy::take_ownership);
  nb::object array = nb::steal(registered.ndarray->tp_alloc(registered.ndarray, 0));
  if (!array.is_valid()) throw nb::python_error();
  const auto set = [&](Py_ssize_t offset, nb::handle value) {
    field(array.ptr(), offset) = value.inc_ref().ptr();
  };
  set(registered.shape, shape);
  set(registered.strides, strides);
  set(registered.offset, nb::int_(0));
  set(registered.handle, handle);
  set(registered.device, registered.cpu);
  set(registered.dtype, registered.dtypes[static_cast<int>(dtype)]);
  return array;
}

}  // namespace needle
