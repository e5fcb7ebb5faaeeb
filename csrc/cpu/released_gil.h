// released_gil.h: releases the GIL for the duration of a scope.
#pragma once

#include <Python.h>

#include <chrono>
#include <thread>

namespace needle {

// Releases the GIL, and acquires it again in the destructor.
//
// If the interpreter is finalized meanwhile, CPython before 3.14 terminates a daemon thread that
// asks for the GIL by unwinding its stack. Unwinding out of a destructor calls std::terminate. To
// avoid that, such a thread sleeps until the process has ended, as later versions of CPython do.
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
