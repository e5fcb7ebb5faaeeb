#include "program.h"

#include <algorithm>
#include <cstring>

#include "released_gil.h"
#include "scratch.h"
#include "threads.h"

#ifdef _WIN32
#define NOMINMAX
#include <windows.h>
#else
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace needle {

namespace {

// The number of forks between the original process and this one. A lock that another thread held at
// a fork is never released in the child.
int forks = 0;
#ifndef _WIN32
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { ++forks; });
#endif

constexpr size_t LARGE = size_t{64} << 10;  // bytes of blocks that eager code gives back

Py_ssize_t data_slot = 0, modified_slot = 0;
PyTypeObject* value_type = nullptr;

[[noreturn]] void raise_os_error(const std::string& message) {
  PyErr_SetString(PyExc_OSError, message.c_str());
  throw nb::python_error();
}

// A library stays loaded until the process ends, because it contains the destructors of its
// threads' scratch memory.
class Library {
 public:
  explicit Library(const std::string& path) : path_(path) {
#ifdef _WIN32
    handle_ = reinterpret_cast<void*>(LoadLibraryA(path.c_str()));
    if (!handle_) raise_os_error(path + ": error " + std::to_string(GetLastError()));
#else
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) raise_os_error(dlerror());
#endif
  }

  void* find(const char* name) const {
#ifdef _WIN32
    return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(handle_), name));
#else
    return dlsym(handle_, name);
#endif
  }

  void* get(const char* name) const {
    void* found = find(name);
    if (!found) raise_os_error(path_ + " has no function " + name);
    return found;
  }

 private:
  std::string path_;
  void* handle_;
};

// The items of a tuple or a list, as borrowed references.
struct Items {
  PyObject** items;
  size_t size;

  Items(nb::handle sequence, size_t expected, const char* what) {
    if (!PyTuple_Check(sequence.ptr()) && !PyList_Check(sequence.ptr())) {
      throw nb::type_error((std::string("[jit] ") + what + " must be a tuple or a list").c_str());
    }
    items = PySequence_Fast_ITEMS(sequence.ptr());
    size = static_cast<size_t>(PySequence_Fast_GET_SIZE(sequence.ptr()));
    if (size != expected) {
      throw nb::value_error(("[jit] the program takes " + std::to_string(expected) + " " + what +
                             ", got " + std::to_string(size))
                                .c_str());
    }
  }
};

std::string text(nb::handle object) { return nb::str(object).c_str(); }

// Whether `array` or its `memory` is referenced by more than the caller and one owner (the owner of
// the array is the state, that of the memory is the array), or whether the memory belongs to
// another object.
bool is_shared(PyObject* array, PyObject* memory) {
  return Py_REFCNT(array) > 2 || Py_REFCNT(memory) > 2 || buffer_of(memory)->owner != nullptr;
}

}  // namespace

void register_values(nb::handle type) {
  const Py_ssize_t data = slot_offset(type, "cached_data");
  modified_slot = slot_offset(type, "_modified");
  data_slot = data;
  nb::handle previous(reinterpret_cast<PyObject*>(value_type));
  value_type = reinterpret_cast<PyTypeObject*>(nb::borrow(type).release().ptr());
  previous.dec_ref();
}

// ---- specifications of arrays -------------------------------------------------------------------

Program::Spec::Spec(nb::handle shape_like, nb::handle dtype_like) : dtype(dtype_of(dtype_like)) {
  nb::tuple dims_tuple = nb::tuple(nb::borrow(shape_like));
  ndim = read_ints(dims_tuple.ptr(), dims);
  if (ndim < 0) throw nb::python_error();
  size = 1;
  nb::list steps;
  for (int axis = ndim; axis-- > 0;) {
    if (dims[axis] < 0 || dims[axis] > MAX_ELEMENTS / std::max<int64_t>(size, 1)) {
      throw nb::value_error("[jit] an array must have between 0 and 2^46 elements");
    }
    steps.append(size);
    size *= dims[axis];
  }
  steps.reverse();
  shape = std::move(dims_tuple);
  strides = nb::tuple(steps);
}

bool Program::Spec::take(PyObject* object, Taken& taken) const {
  if (!is_ndarray(object)) return false;
  PyObject *shape_now = field(object, registered.shape),
           *strides_now = field(object, registered.strides),
           *offset_now = field(object, registered.offset),
           *handle = field(object, registered.handle);
  if (!shape_now || !strides_now || !offset_now || !handle) return false;
  const Buffer* buffer = buffer_of(handle);
  if (!buffer || buffer->dtype != dtype) return false;
  taken.array = nb::borrow(object);
  taken.memory = nb::borrow(handle);
  const bool same = shape_now == shape.ptr() && strides_now == strides.ptr();
  const int64_t offset = PyLong_Check(offset_now) ? PyLong_AsLongLong(offset_now) : -1;
  const bool compact = same || is_compact(shape_now, strides_now);
  if (PyErr_Occurred()) PyErr_Clear();  // an offset that is not an integer does not match
  taken.data = static_cast<char*>(buffer->data);
  if (!compact || size == 0) return compact;
  if (offset < 0 || size > buffer->size || offset > buffer->size - size) return false;
  taken.data += offset * item_size(dtype);
  return true;
}

bool Program::Spec::is_compact(PyObject* shape_now, PyObject* strides_now) const {
  int64_t now[MAX_DIMS], steps[MAX_DIMS];
  if (read_ints(shape_now, now) != ndim || read_ints(strides_now, steps) != ndim) return false;
  if (std::memcmp(now, dims, ndim * sizeof(int64_t)) != 0) return false;
  if (size == 0) return true;
  // As in layout.is_compact, the stride of an axis of length 1 is never used.
  int64_t expected = 1;
  for (int axis = ndim; axis-- > 0; expected *= dims[axis]) {
    if (dims[axis] != 1 && steps[axis] != expected) return false;
  }
  return true;
}

Program::Taken Program::Spec::make() const {
  nb::object array = new_ndarray(shape, strides, size, dtype);
  nb::object memory = nb::borrow(field(array.ptr(), registered.handle));
  char* data = static_cast<char*>(buffer_of(memory.ptr())->data);
  return {std::move(array), std::move(memory), data};
}

// ---- construction -------------------------------------------------------------------------------

Program::Program(const std::string& path, nb::sequence arguments, nb::sequence states,
                 nb::sequence constants, nb::sequence results, int64_t arena_bytes)
    : arena_bytes_(arena_bytes), forks_(forks) {
  if (arena_bytes < 0 || arena_bytes > MAX_ELEMENTS) {
    throw nb::value_error("[jit] arena_bytes must be between 0 and 2^46");
  }
  for (nb::handle spec : arguments) arguments_.emplace_back(spec[0], spec[1]);
  for (nb::handle spec : results) results_.emplace_back(spec[0], spec[1]);
  for (nb::handle spec : states) {
    states_.emplace_back(spec[0], spec[1]);
    states_.back().written = nb::cast<bool>(spec[2]);
    states_.back().in_place = nb::cast<bool>(spec[3]);
  }
  for (nb::handle constant : constants) {
    view_of(constant);  // raises unless it is an array of this device
    const Spec itself(constant.attr("_shape"), constant.attr("_dtype"));
    Taken taken;
    if (!itself.take(constant.ptr(), taken))
      throw nb::value_error("[jit] a constant is not compact");
    constants_.push_back(std::move(taken));
  }
  const Library library(path);
  function_ = reinterpret_cast<Function>(library.get("needle_program"));
  static constexpr Threads threads{num_threads, run_tasks, current_task};
  if (void* place = library.find("needle_threads")) {
    *static_cast<const Threads**>(place) = &threads;
  }
  if (void* allocate = library.find("needle_allocate_scratch")) {
    *reinterpret_cast<void* (**)(size_t, size_t)>(allocate) = allocate_scratch;
  }
}

Program::~Program() {
  if (arena_) Pool::instance().release(arena_, static_cast<size_t>(arena_bytes_));
}

// ---- running ------------------------------------------------------------------------------------

std::unique_lock<std::recursive_mutex> Program::lock() {
  if (forks_ != forks) {  // a thread that does not exist in this process may hold it
    static_cast<void>(mutex_.release());
    mutex_ = std::make_unique<std::recursive_mutex>();
    forks_ = forks;
  }
  std::unique_lock lock(*mutex_, std::try_to_lock);
  if (!lock) {  // the thread that holds it needs the GIL to finish
    const ReleasedGil others_run;
    lock.lock();
  }
  return lock;
}

Program::Taken Program::argument(PyObject* object, size_t number) const {
  const Spec& wanted = arguments_[number];
  Taken taken;
  if (wanted.take(object, taken)) return taken;
  std::string got = Py_TYPE(object)->tp_name;
  if (is_ndarray(object)) {
    const nb::handle array(object);
    got = text(array.attr("_dtype")) + " " + text(array.attr("_shape")) + " with strides " +
          text(array.attr("_strides")) + " on " + text(array.attr("_device"));
  }
  throw nb::value_error(("[jit] argument " + std::to_string(number) + " must be a compact " +
                         text(registered.dtypes[static_cast<int>(wanted.dtype)]) + " array of " +
                         "shape " + text(wanted.shape) + " on cpu(), got " + got)
                            .c_str());
}

bool Program::take_states(nb::handle states, std::vector<nb::object>& values,
                          std::vector<Taken>& arrays) const {
  const Items items(states, states_.size(), "states");
  for (size_t i = 0; i < items.size; ++i) {
    PyObject* value = items.items[i];
    if (value_type == nullptr || !PyObject_TypeCheck(value, value_type)) {
      throw nb::type_error(
          ("[jit] state " + std::to_string(i) + " must be a Tensor, got " + Py_TYPE(value)->tp_name)
              .c_str());
    }
    PyObject* array = field(value, data_slot);
    Taken taken;
    if (array == nullptr || !states_[i].take(array, taken)) return false;
    values.push_back(nb::borrow(value));
    arrays.push_back(std::move(taken));
  }
  return true;
}

nb::object Program::run(nb::handle arguments, nb::handle states, nb::int_ clock) {
  const auto guard = lock();

  // Memory is allocated first, because an allocation may collect garbage, which may run any code.
  if (!arena_ && arena_bytes_ > 0) {
    Pool::instance().empty_cache(LARGE);  // eager code's blocks, for which a program has no use
    arena_ = static_cast<char*>(
        Pool::instance().allocate(static_cast<size_t>(arena_bytes_), collect_garbage));
  }
  std::vector<Taken> inputs, arrays, results;
  std::vector<nb::object> values;
  results.reserve(results_.size());
  for (const Spec& r : results_) results.push_back(r.make());

  inputs.reserve(arguments_.size());
  values.reserve(states_.size());
  arrays.reserve(states_.size());
  const Items given(arguments, arguments_.size(), "arguments");
  for (size_t i = 0; i < given.size; ++i) inputs.push_back(argument(given.items[i], i));
  if (!take_states(states, values, arrays)) return nb::none();

  for (size_t i = 0; i < arrays.size(); ++i) {
    const Spec& state = states_[i];
    if (!state.written || state.in_place) continue;
    if (!is_shared(arrays[i].array.ptr(), arrays[i].memory.ptr())) continue;
    Taken own = state.make();
    std::memcpy(own.data, arrays[i].data, state.size * item_size(state.dtype));
    PyObject*& slot = field(values[i].ptr(), data_slot);
    nb::object old = nb::steal(slot);
    slot = nb::object(own.array).release().ptr();
    arrays[i] = std::move(own);  // releases the old array, which a later state may have shared
  }

  std::vector<char*> buffers;
  buffers.reserve(inputs.size() + arrays.size() + constants_.size() + results.size() + 1);
  const std::vector<Taken>* const lists[] = {&inputs, &arrays, &constants_, &results};
  for (const auto* list : lists) {
    for (const Taken& taken : *list) buffers.push_back(taken.data);
  }
  buffers.push_back(arena_);
  {
    const ReleasedGil others_run;
    const FixedThreads threads;
    function_(buffers.data(), &kernels());
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (!states_[i].written) continue;
    nb::object old = nb::steal(field(values[i].ptr(), modified_slot));
    field(values[i].ptr(), modified_slot) = nb::object(clock).release().ptr();
  }
  nb::list out;
  for (const Taken& result : results) out.append(result.array);
  return out;
}

}  // namespace needle
