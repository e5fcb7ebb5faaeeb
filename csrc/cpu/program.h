// program.h: a compiled program of needle.jit, run as one native call.
//
// A program is a shared library that exports
//
//   extern "C" void needle_program(char* const* buffers, const needle::KernelTable* kernels);
//
// `buffers` are pointers to compact arrays: arguments, states, constants, results, and last the
// arena. The program reads the arguments and constants, writes every element of every result,
// updates the written states in place, and uses the arena (64-byte aligned) as scratch memory. It
// may throw std::out_of_range or std::invalid_argument, but only before it has written to a state.
// It is called without the GIL, by one Python thread at a time.
//
// A library that uses threads.h or scratch.h may also export the variables
//
//   extern "C" const needle::Threads* needle_threads;
//   extern "C" void* (*needle_allocate_scratch)(size_t bytes, size_t alignment);
//
// The core sets them, when it loads the library, to the functions that eager kernels use.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels.h"
#include "ndarray.h"

namespace needle {

// Registers the slots in which needle.autograd.Value keeps its data.
void register_values(nb::handle value_type);

class Program {
 public:
  // `arguments` and `results` are lists of (shape, dtype), `states` is a list of (shape, dtype,
  // written, in_place), and `constants` a list of NDArrays. Raises OSError if the library cannot be
  // loaded.
  Program(const std::string& path, nb::sequence arguments, nb::sequence states,
          nb::sequence constants, nb::sequence results, int64_t arena_bytes);
  Program(const Program&) = delete;
  ~Program();

  // Runs the program and returns the results as a list of new NDArrays. `arguments` are NDArrays
  // and `states` are distinct Values, in tuples or lists. `clock` becomes the modification time of
  // the written states. Returns None, without having changed anything, if the array of a state does
  // not have the shape, dtype, layout and device that the program was compiled for. Raises
  // ValueError if an argument does not.
  //
  // Copy-on-write: if another object refers to the memory of a written state (a snapshot, a view,
  // NumPy), or if the memory belongs to another owner, the state first gets a copy of its own, so
  // that the other object does not change. A state that is written in place is not copied, because
  // all references to it are to see the change.
  nb::object run(nb::handle arguments, nb::handle states, nb::int_ clock);

  // Whether the states' arrays have the shapes, dtypes, layout and device of this program.
  bool fits(nb::handle states) const {
    std::vector<nb::object> values;
    std::vector<Taken> arrays;
    return take_states(states, values, arrays);
  }

  int64_t arena_bytes() const { return arena_bytes_; }

 private:
  using Function = void (*)(char* const* buffers, const KernelTable* kernels);

  // An array and a reference to its memory. If another thread changes the array's fields during a
  // run, the run is not affected.
  struct Taken {
    nb::object array, memory;
    char* data;
  };

  struct Spec {  // shape and dtype of an argument, a state or a result; all are compact
    nb::object shape, strides;
    DType dtype;
    int ndim;
    int64_t dims[MAX_DIMS];
    int64_t size;
    bool written = false, in_place = false;

    Spec(nb::handle shape, nb::handle dtype);
    bool take(PyObject* object, Taken& taken) const;  // false if it does not match
    Taken make() const;                               // with new memory

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
  // A run holds the mutex from its first access to the states to its end. It is recursive, because
  // an allocation may collect garbage, which may run any code.
  std::unique_ptr<std::recursive_mutex> mutex_ = std::make_unique<std::recursive_mutex>();
  int forks_;  // the value of `forks` when the mutex was created
};

}  // namespace needle
