#include "ndarray.h"

#include <structmember.h>

#include <cstddef>
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
  const bool is_member =
      Py_TYPE(descriptor.ptr()) == &PyMemberDescr_Type && PyType_Check(type.ptr());
  const auto* member = reinterpret_cast<PyMemberDescrObject*>(descriptor.ptr());
  // The descriptor must be a member of this type or of one of its bases, and hold an object
  // reference.
  if (!is_member || member->d_member->type != T_OBJECT_EX ||
      !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), PyDescr_TYPE(member))) {
    throw nb::type_error("[register] the type must keep its fields in __slots__");
  }
  return member->d_member->offset;
}

void register_types(nb::handle ndarray, nb::list dtypes, nb::handle device) {
  if (dtypes.size() != DTYPE_COUNT)
    throw nb::value_error("[register] needs one dtype for each of DType");
  if (registered.ndarray != nullptr) return;  // a second device object, as unpickling makes one
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
  for (int i = 0; i < DTYPE_COUNT; ++i) {  // an equal dtype, as from an unpickled array
    if (nb::handle(registered.dtypes[i]).equal(dtype)) return static_cast<DType>(i);
  }
  throw nb::type_error("dtype must be one of the dtypes in needle.backend_ndarray.DTYPES");
}

bool is_ndarray(nb::handle object) {
  return registered.ndarray != nullptr && PyObject_TypeCheck(object.ptr(), registered.ndarray);
}

// ---- buffers --------------------------------------------------------------------------------

namespace {

PyTypeObject* buffer_type = nullptr;

const Buffer& as_buffer(PyObject* self) { return *reinterpret_cast<const Buffer*>(self); }

void free_buffer(PyObject* self) {
  const Buffer& buffer = as_buffer(self);
  if (buffer.weak_references != nullptr) PyObject_ClearWeakRefs(self);
  if (buffer.owner != nullptr) {
    Py_DECREF(buffer.owner);
  } else {
    Pool::instance().release(buffer.data, buffer.nbytes());
  }
  PyObject_Free(self);
  Py_DECREF(buffer_type);
}

Buffer* new_buffer(int64_t size, DType dtype, void* data, PyObject* owner) {
  Buffer* buffer = PyObject_New(Buffer, buffer_type);
  if (buffer == nullptr) return nullptr;
  buffer->data = data;
  buffer->size = size;
  buffer->dtype = dtype;
  buffer->shared = false;
  buffer->version = 0;
  buffer->owner = owner;
  buffer->weak_references = nullptr;
  return buffer;
}

PyMethodDef BUFFER_METHODS[] = {
    {"ptr", [](PyObject* self, PyObject*) { return PyLong_FromVoidPtr(as_buffer(self).data); },
     METH_NOARGS, "The address of the memory."},
    {}};

PyGetSetDef BUFFER_PROPERTIES[] = {
    {"size", [](PyObject* self, void*) { return PyLong_FromLongLong(as_buffer(self).size); },
     nullptr, "How many elements fit.", nullptr},
    {"nbytes", [](PyObject* self, void*) { return PyLong_FromSize_t(as_buffer(self).nbytes()); },
     nullptr, "How many bytes they take.", nullptr},
    {"dtype",
     [](PyObject* self, void*) {
       return Py_NewRef(registered.dtypes[static_cast<int>(as_buffer(self).dtype)]);
     },
     nullptr, "The elements' dtype.", nullptr},
    {}};

PyMemberDef BUFFER_FIELDS[] = {
    {"version", T_LONGLONG, offsetof(Buffer, version), 0, "When the contents were last changed."},
    {"shared", T_BOOL, offsetof(Buffer, shared), 0, "Whether another buffer may know the memory."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Buffer, weak_references), READONLY, nullptr},
    {}};

PyType_Slot BUFFER_SLOTS[] = {{Py_tp_dealloc, reinterpret_cast<void*>(free_buffer)},
                              {Py_tp_methods, BUFFER_METHODS},
                              {Py_tp_getset, BUFFER_PROPERTIES},
                              {Py_tp_members, BUFFER_FIELDS},
                              {0, nullptr}};
PyType_Spec BUFFER_SPEC = {"needle._core.Buffer", sizeof(Buffer), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, BUFFER_SLOTS};

}  // namespace

void register_buffer(nb::module_ module) {
  nb::object type = nb::steal(PyType_FromSpec(&BUFFER_SPEC));
  if (!type.is_valid()) throw nb::python_error();
  module.attr("Buffer") = type;
  buffer_type = reinterpret_cast<PyTypeObject*>(type.release().ptr());
}

Buffer* buffer_of(PyObject* handle) {
  // No type can inherit from Buffer, so comparing the exact type is enough.
  return Py_TYPE(handle) == buffer_type ? reinterpret_cast<Buffer*>(handle) : nullptr;
}

nb::object make_buffer(int64_t size, DType dtype) {
  void* data =
      Pool::instance().allocate(static_cast<size_t>(size) * item_size(dtype), collect_garbage);
  Buffer* buffer = new_buffer(size, dtype, data, nullptr);
  if (buffer == nullptr) {
    Pool::instance().release(data, static_cast<size_t>(size) * item_size(dtype));
    throw nb::python_error();
  }
  return nb::steal(reinterpret_cast<PyObject*>(buffer));
}

nb::object make_buffer(void* memory, int64_t size, DType dtype, nb::object owner) {
  Buffer* buffer = new_buffer(size, dtype, memory, owner.ptr());
  if (buffer == nullptr) throw nb::python_error();
  owner.release();
  return nb::steal(reinterpret_cast<PyObject*>(buffer));
}

// ---- arrays -----------------------------------------------------------------------------------

int read_ints(PyObject* tuple, int64_t (&out)[MAX_DIMS]) {
  if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) > MAX_DIMS) {
    PyErr_Format(PyExc_ValueError,
                 "an NDArray's shape and strides must be tuples of at most %d integers", MAX_DIMS);
    return -1;
  }
  const nb::object keep = nb::borrow(tuple);  // an __index__ may run any code
  const int n = static_cast<int>(PyTuple_GET_SIZE(tuple));
  for (int i = 0; i < n; ++i) {
    out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    if (out[i] == -1 && PyErr_Occurred()) return -1;
  }
  return n;
}

namespace {

// Whether a layout at `offset` stays inside of `size` elements and its lengths are possible. An
// empty array accesses no element.
bool lies_inside(const View& v, int64_t offset, int64_t size) {
  int64_t low = offset, high = offset, elements = 1;
  bool overflow = false, empty = false;
  for (int axis = 0; axis < v.ndim; ++axis) {
    const int64_t length = v.shape[axis];
    // Checked even for an axis that is never traversed, because loops multiply its stride
    // nevertheless.
    if (v.strides[axis] < -MAX_ELEMENTS || v.strides[axis] > MAX_ELEMENTS) return false;
    if (length <= 0) {
      if (length < 0) return false;
      empty = true;
      continue;
    }
    int64_t reach;
    overflow |= __builtin_mul_overflow(elements, length, &elements) || elements > MAX_ELEMENTS;
    overflow |= __builtin_mul_overflow(length - 1, v.strides[axis], &reach);
    int64_t& end = reach < 0 ? low : high;
    overflow |= __builtin_add_overflow(end, reach, &end);
  }
  return !overflow && (empty || (low >= 0 && high < size));
}

[[noreturn]] void refuse_layout(nb::handle array, const Buffer& buffer) {
  const auto text = [&](const char* name) {
    return std::string(nb::repr(array.attr(name)).c_str());
  };
  throw nb::value_error(("an NDArray of shape " + text("_shape") + ", strides " + text("_strides") +
                         " and offset " + text("_offset") + " reaches outside of its buffer of " +
                         std::to_string(buffer.size) + " elements")
                            .c_str());
}

}  // namespace

Array view_of(nb::handle array) {
  if (!is_ndarray(array)) {
    throw nb::type_error(
        (std::string("expected an NDArray, got ") + Py_TYPE(array.ptr())->tp_name).c_str());
  }
  Array view;
  view.memory = nb::borrow(slot(array.ptr(), registered.handle));
  const Buffer* buffer = buffer_of(view.memory.ptr());
  if (buffer == nullptr) {
    throw nb::value_error(
        "an array of another device was given to cpu() (move it with .to(cpu())), or it was made "
        "inside a function compiled by jit and did not leave it through its return value");
  }
  view.ndim = read_ints(slot(array.ptr(), registered.shape), view.shape);
  if (view.ndim < 0) throw nb::python_error();
  const int strides = read_ints(slot(array.ptr(), registered.strides), view.strides);
  if (strides < 0) throw nb::python_error();
  if (strides != view.ndim) {
    throw nb::value_error("an NDArray's shape and strides differ in length");
  }
  const int64_t offset = PyLong_AsLongLong(slot(array.ptr(), registered.offset));
  if (offset == -1 && PyErr_Occurred()) throw nb::python_error();
  if (!lies_inside(view, offset, buffer->size)) refuse_layout(array, *buffer);
  view.dtype = buffer->dtype;
  view.data = static_cast<char*>(buffer->data);
  if (size_of(view) > 0) view.data += offset * item_size(view.dtype);
  return view;
}

nb::object int_tuple(const int64_t* values, int count) {
  nb::object tuple = nb::steal(PyTuple_New(count));
  if (!tuple.is_valid()) throw nb::python_error();
  for (int i = 0; i < count; ++i) {
    PyObject* value = PyLong_FromLongLong(values[i]);
    if (value == nullptr) throw nb::python_error();
    PyTuple_SET_ITEM(tuple.ptr(), i, value);
  }
  return tuple;
}

int64_t size_of(const View& view) {
  int64_t n = 1;
  for (int axis = 0; axis < view.ndim; ++axis) n *= view.shape[axis];
  return n;
}

nb::object new_ndarray(nb::handle shape, nb::handle strides, int64_t size, DType dtype) {
  nb::object handle = make_buffer(size, dtype);
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
