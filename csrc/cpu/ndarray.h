// ndarray.h: how the core accesses Python's NDArray objects: their slots, dtypes and buffers.
//
// Slots are read directly, which costs nanoseconds; attribute access would cost more than a small
// kernel. A slot may hold any object. Whatever it holds, and whoever calls, a View lies inside its
// buffer, or an error is raised.
#pragma once

#include <nanobind/nanobind.h>

#include "buffer.h"
#include "view.h"

namespace needle {

namespace nb = nanobind;

void collect_garbage();

// A Python object that refers to memory of the pool, or to memory of an object that `owner` keeps
// alive. Every operation creates and frees one, so it has no methods that could fail when memory is
// short. needle.backend_ndarray.versions maintains `version` and `shared`.
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

// Adds the type Buffer to the module.
void register_buffer(nb::module_ module);
// A buffer of new memory from the pool. Throws OutOfMemory.
nb::object make_buffer(int64_t size, DType dtype);
// A buffer of existing memory, which lives as long as `owner`.
nb::object make_buffer(void* memory, int64_t size, DType dtype, nb::object owner);
Buffer* buffer_of(PyObject* handle);  // null if it is the handle of another device

constexpr int64_t MAX_ELEMENTS = int64_t{1} << 46;

// An NDArray's View, and a reference to its memory. If another thread changes the NDArray's fields
// while a kernel runs, the kernel is not affected.
struct Array : View {
  nb::object memory;

  const Buffer& buffer() const { return *buffer_of(memory.ptr()); }
};

// What Python registers once: the NDArray type, the offsets of its slots, the dtypes in the order
// of DType, and the device of the arrays that the core creates.
struct Registered {
  PyTypeObject* ndarray = nullptr;
  Py_ssize_t shape, strides, offset, handle, device, dtype;
  PyObject* dtypes[DTYPE_COUNT];
  PyObject* cpu;
};
extern Registered registered;

void register_types(nb::handle ndarray, nb::list dtypes, nb::handle device);

// The offset of a field in the objects of a type that declares it in __slots__.
Py_ssize_t slot_offset(nb::handle type, const char* name);

// The field at `offset`. The object owns the reference; it is null until the field is set.
inline PyObject*& field(PyObject* object, Py_ssize_t offset) {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + offset);
}

DType dtype_of(nb::handle dtype);
bool is_ndarray(nb::handle object);
// Reads the integers of a tuple of at most MAX_DIMS items. Returns their number, or -1 with a
// Python error set.
int read_ints(PyObject* tuple, int64_t (&out)[MAX_DIMS]);
// A tuple of Python integers.
nb::object int_tuple(const int64_t* values, int count);
// The View of an NDArray. Throws unless `array` is an NDArray of this device, its elements all lie
// in its buffer, and it has at most MAX_ELEMENTS elements, where axes of length 0 count as 1.
Array view_of(nb::handle array);
int64_t size_of(const View& view);

// A new array with new memory from the pool. `shape` and `strides` are tuples of Python integers.
nb::object new_ndarray(nb::handle shape, nb::handle strides, int64_t size, DType dtype);

}  // namespace needle
