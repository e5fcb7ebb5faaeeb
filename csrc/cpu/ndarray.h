// ndarray.h: Python's NDArray objects as the core sees them: their slots, dtypes and buffers.
//
// Slots are read directly, which costs nanoseconds where attribute access would cost more than a
// small kernel. Anything may be in them: whatever a slot holds and whoever calls, a View lies
// inside its buffer, or there is an error.
#pragma once

#include <nanobind/nanobind.h>

#include "buffer.h"
#include "view.h"

namespace needle {

namespace nb = nanobind;

void collect_garbage();

// Memory of the pool, or of an object that `owner` keeps alive, as a Python object without methods
// that could fail when memory is short: it is made and freed by every operation. `version` and
// `shared` are kept by needle.backend_ndarray.versions.
struct Buffer {
  PyObject_HEAD void* data;
  int64_t size;
  DType dtype;
  bool shared;
  int64_t version;
  PyObject* owner;  // null for memory of the pool
  PyObject* weak_references;

  size_t nbytes() const { return static_cast<size_t>(size) * item_size(dtype); }
};

// Adds the type to the module.
void register_buffer(nb::module_ module);
// New memory of the pool. Throws OutOfMemory.
nb::object make_buffer(int64_t size, DType dtype);
// Memory that lives as long as `owner`.
nb::object make_buffer(void* memory, int64_t size, DType dtype, nb::object owner);
Buffer* buffer_of(PyObject* handle);  // null for the handle of another device

constexpr int64_t MAX_ELEMENTS = int64_t{1} << 46;

// An NDArray's View, and a reference to its memory: what others do to the NDArray's fields while a
// kernel runs does not matter to the kernel.
struct Array : View {
  nb::object memory;

  const Buffer& buffer() const { return *buffer_of(memory.ptr()); }
};

// What the Python side registers, once: the NDArray type, the offsets of its slots, the dtypes in
// the order of DType, and the device of arrays that are made here.
struct Registered {
  PyTypeObject* ndarray = nullptr;
  Py_ssize_t shape, strides, offset, handle, device, dtype;
  PyObject* dtypes[DTYPE_COUNT];
  PyObject* cpu;
};
extern Registered registered;

void register_types(nb::handle ndarray, nb::list dtypes, nb::handle device);

// The offset of a field in the objects of a type that keeps it in __slots__.
Py_ssize_t slot_offset(nb::handle type, const char* name);

// The field at `offset`: owned by the object; null before it was set.
inline PyObject*& field(PyObject* object, Py_ssize_t offset) {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + offset);
}

DType dtype_of(nb::handle dtype);
bool is_ndarray(nb::handle object);
// The integers of a tuple of at most MAX_DIMS, or -1 and a Python error.
int read_ints(PyObject* tuple, int64_t (&out)[MAX_DIMS]);
// Throws unless `array` is an NDArray of this device whose elements all lie in its buffer, and that
// has at most MAX_ELEMENTS of them, axes of length 0 counted as 1.
Array view_of(nb::handle array);
int64_t size_of(const View& view);

// A new array over new memory of the pool. `shape` and `strides` are tuples of Python integers.
nb::object new_ndarray(nb::handle shape, nb::handle strides, int64_t size, DType dtype);

}  // namespace needle
