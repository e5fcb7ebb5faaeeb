// ndarray.h: Python's NDArray objects as the core sees them: their slots, dtypes and buffers.
//
// Slots are read directly, which costs nanoseconds where attribute access would cost more than a
// small kernel. NDArray has checked shapes, dtypes and devices; what is checked here is what would
// crash.
#pragma once

#include <nanobind/nanobind.h>

#include "buffer.h"
#include "view.h"

namespace needle {

namespace nb = nanobind;

void collect_garbage();

// Memory of the pool, or of an object that `owner` keeps alive.
struct Buffer {
  void* data;
  int64_t size;
  DType dtype;
  nb::object owner;

  Buffer(int64_t count, DType type) : size(count), dtype(type) {
    data = Pool::instance().allocate(nbytes(), collect_garbage);
  }
  Buffer(void* memory, int64_t count, DType type, nb::object keep)
      : data(memory), size(count), dtype(type), owner(std::move(keep)) {}
  Buffer(const Buffer&) = delete;
  ~Buffer() {
    if (!owner.is_valid()) Pool::instance().release(data, nbytes());
  }
  size_t nbytes() const { return static_cast<size_t>(size) * item_size(dtype); }
};

constexpr int64_t MAX_ELEMENTS = int64_t{1} << 46;

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
Buffer* buffer_of(PyObject* handle);  // null for the handle of another device
int read_ints(PyObject* tuple, int64_t (&out)[MAX_DIMS]);
View view_of(nb::handle array);
int64_t size_of(const View& view);

// A new array over new memory of the pool. `shape` and `strides` are tuples of Python integers.
nb::object new_ndarray(nb::handle shape, nb::handle strides, int64_t size, DType dtype);

}  // namespace needle
