// threads.h: how kernels use the machine's cores.
//
// OpenMP where the compiler has it, else one thread. A forked child runs on one thread: OpenMP's
// workers do not survive a fork.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace needle {

int num_threads();
void set_num_threads(int n);  // n >= 1

// Elements of cheap work below which starting a second thread costs more than it brings: waking one
// takes some microseconds, in which one core moves about this many floats.
constexpr int64_t PARALLEL_GRAIN = 1 << 15;

// Calls task(i) for every i in [0, tasks), on up to num_threads() threads. Tasks must not throw.
template <typename Task>
void parallel_for(int64_t tasks, const Task& task) {
#ifdef _OPENMP
  const int threads = static_cast<int>(std::min<int64_t>(num_threads(), tasks));
  if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < tasks; ++i) task(i);
    return;
  }
#endif
  for (int64_t i = 0; i < tasks; ++i) task(i);
}

// `parallel_for` that compiles the code of a task once and that of threads once for all: programs
// of needle.jit have many tasks, and their users wait for the compiler.
[[gnu::noinline]] inline void parallel_calls(int64_t tasks, void (*call)(const void*, int64_t),
                                             const void* task) {
  parallel_for(tasks, [=](int64_t i) { call(task, i); });
}
template <typename Task>
void parallel_calls(int64_t tasks, const Task& task) {
  const auto call = [](const void* that, int64_t i) { (*static_cast<const Task*>(that))(i); };
  parallel_calls(tasks, call, &task);
}

// Calls body(begin, end) on consecutive parts of [0, n) that cost at least `PARALLEL_GRAIN` each,
// where one element costs `cost`. The parts depend only on n, cost and the number of threads.
template <typename Body>
void parallel_range(int64_t n, int64_t cost, const Body& body) {
  const int64_t worth = n * std::max<int64_t>(cost, 1) / PARALLEL_GRAIN;
  const int64_t parts = std::clamp<int64_t>(worth, 1, std::min<int64_t>(num_threads(), n ? n : 1));
  if (parts == 1) {
    body(int64_t{0}, n);
    return;
  }
  parallel_for(parts, [&](int64_t i) { body(n * i / parts, n * (i + 1) / parts); });
}

}  // namespace needle
