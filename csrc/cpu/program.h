// program.h: a compiled program of needle.jit, run as one native call.
//
// A program is a shared library that exports
//
//   extern "C" void needle_program(char* const* buffers, const needle::KernelTable* kernels);
//
// `buffers` are pointers to compact arrays, in the order arguments, states, constants, results,
// then the arena. The program reads the arguments and constants, writes all of every result,
// updates the written states in place, and uses the arena (64-byte aligned) as it likes. It may
// throw std::out_of_range or std::invalid_argument before it has written to a state. It is called
// without the GIL, by one Python thread at a time.
//
// A library that uses threads.h or scratch.h may also export the variables
//
//   extern "C" const needle::Threads* needle_threads;
//   extern "C" void* (*needle_allocate_scratch)(size_t bytes, size_t alignment);
//
// which are set, when it is loaded, to what eager kernels use.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels.h"
#include "ndarray.h"

namespace needle {

// Learns where needle.autograd.Value keeps its data.
void register_values(nb::handle value_type);

class Program {
 public:
  // `arguments` and `results` are lists of (shape, dtype), `states` of (shape, dtype, written,
  // in_place), `constants` of NDArrays. Raises OSError if the library cannot be loaded.
  Program(const std::string& path, nb::sequence arguments, nb::sequence states,
          nb::sequence constants, nb::sequence results, int64_t arena_bytes);
  Program(const Program&) = delete;
  ~Program();

  // The results, as a list of new NDArrays. `arguments` are NDArrays and `states` distinct Values,
  // in tuples or lists; the written ones get `clock` as the time of their modification. None if a
  // state's array is not of the shape, dtype, layout and device that the program was made for:
  // nothing has changed then. Raises ValueError if an argument is not.
  //
  // A written state whose memory is seen by anyone else (a snapshot, a view, NumPy) or belongs to
  // someone else gets memory of its own first, so that what was taken from it stays as it was;
  // unless it is written in place, which all of them are to see.
  nb::object run(nb::handle arguments, nb::handle states, nb::int_ clock);

  // Whether the states' arrays are of the shapes, dtypes, layout and device of this program.
  bool fits(nb::handle states) const {
    std::vector<nb::object> values;
    std::vector<Taken> arrays;
    return take_states(states, values, arrays);
  }

  int64_t arena_bytes() const { return arena_bytes_; }

 private:
  using Function = void (*)(char* const* buffers, const KernelTable* kernels);

  // An array and its memory: what others do to the array's fields during a run does not matter.
  struct Taken {
    nb::object array, memory;
    char* data;
  };

  struct Spec {  // what an argument, a state or a result must be or will be: compact
    nb::object shape, strides;
    DType dtype;
    int ndim;
    int64_t dims[MAX_DIMS];
    int64_t size;
    bool written = false, in_place = false;

    Spec(nb::handle shape, nb::handle dtype);
    bool take(PyObject* object, Taken& taken) const;  // false if it does not fit
    Taken make() const;                               // over new memory

   private:
    bool is_compact(PyObject* shape, PyObject* strides) const;
  };

  std::unique_lock<std::recursive_mutex> lock();
  Taken argument(PyObject* object, size_t number) const;
  bool take_states(nb::handle states, std::vector<nb::object>& values,
                   std::vector<Taken>& arrays) const;

  std::vector<Spec> arguments_, states_, results_;
  std::vector<Taken> constants_;
  Function function_ = nullptr;
  int64_t arena_bytes_;
  char* arena_ = nullptr;
  // Held by a run from its first look at the states to its end. Recursive because a collection of
  // garbage during an allocation may run anything.
  std::unique_ptr<std::recursive_mutex> mutex_ = std::make_unique<std::recursive_mutex>();
  int forks_;  // how many forks led to the process that made the mutex
};

}  // namespace needle
