// threads.h: how kernels use the machine's cores.
//
// Contract: `parallel_for` calls every task once and returns when all are done. Which thread runs a
// task is left open, so a task may depend on its number and on nothing of its thread. An exception
// of a task is thrown again by the caller, after the other tasks.
//
// Idea: one pool of workers for the process (threads.cpp). Tasks are claimed: each thread begins
// with those that it had in the loop before, which are in its cache, then takes what no other has
// begun. So the caller never waits for a worker that the system does not let run, on a machine
// whose cores are busy with other programs. A worker spins for the next loop for a moment, then
// sleeps. Source: R. Blumofe, C. Leiserson, Scheduling Multithreaded Computations by Work Stealing,
// 1999, without the queues: tasks are known beforehand.
//
// Bound: a loop costs about a microsecond while the workers spin, a system call where one sleeps.
#pragma once

#include <algorithm>
#include <cstdint>

namespace needle {

using TaskFunction = void (*)(const void* context, int64_t task);

constexpr int MAX_THREADS = 255;

// How many threads a loop may use, the caller's included.
int num_threads();
void set_num_threads(int n);  // throws std::invalid_argument unless 1 <= n <= MAX_THREADS

// While one lives, num_threads() is constant in its thread and in the tasks of its loops: a kernel
// that has sized something for each task is not surprised by a set_num_threads() elsewhere.
class FixedThreads {
 public:
  FixedThreads();
  explicit FixedThreads(int n);
  ~FixedThreads();
  FixedThreads(const FixedThreads&) = delete;

 private:
  int before_;
};

// Calls function(context, i) for every i in [0, tasks), on up to num_threads() threads. Inside of a
// task, and while another thread uses the pool, the caller runs all of them itself.
void run_tasks(int64_t tasks, TaskFunction function, const void* context);

// The number of the task that this thread is running, 0 outside of `run_tasks`.
int64_t current_task();

// The functions above for a program of needle.jit, which is a library of its own.
struct Threads {
  int (*num_threads)();
  void (*run_tasks)(int64_t, TaskFunction, const void*);
  int64_t (*current_task)();
};

// Elements of cheap work below which starting a second thread costs more than it brings: waking one
// takes some microseconds, in which one core moves about this many floats.
constexpr int64_t PARALLEL_GRAIN = 1 << 15;

// Calls task(i) for every i in [0, tasks), on up to num_threads() threads.
template <typename Task>
void parallel_for(int64_t tasks, const Task& task) {
  const auto call = [](const void* that, int64_t i) { (*static_cast<const Task*>(that))(i); };
  run_tasks(tasks, call, &task);
}

// Calls body(begin, end) on consecutive parts of [0, n) that cost at least `PARALLEL_GRAIN` each,
// where one element costs `cost`. The parts depend only on n, cost and the number of threads.
template <typename Body>
void parallel_range(int64_t n, int64_t cost, const Body& body) {
  int64_t worth;
  if (__builtin_mul_overflow(n, std::max<int64_t>(cost, 1), &worth)) worth = INT64_MAX;
  worth /= PARALLEL_GRAIN;
  const int64_t parts = std::clamp<int64_t>(worth, 1, std::min<int64_t>(num_threads(), n ? n : 1));
  if (parts == 1) {
    body(int64_t{0}, n);
    return;
  }
  parallel_for(parts, [&](int64_t i) { body(n * i / parts, n * (i + 1) / parts); });
}

}  // namespace needle
