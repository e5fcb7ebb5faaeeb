// released_gil.h: the time in which other Python threads run.
#pragma once

#include <Python.h>

#include <chrono>
#include <thread>

namespace needle {

// Lets go of the GIL and takes it back at its end.
//
// When the interpreter ends meanwhile, CPython before 3.14 ends a daemon thread that asks for the
// GIL by unwinding its stack, which C++ answers with std::terminate: such a thread sleeps until the
// process is gone, as later versions have it.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;
  ~ReleasedGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  PyThreadState* state_;
};

}  // namespace needle
