// threads.h: parallel loops over the machine's cores.
//
// Contract: `parallel_for` calls every task once and returns when all are done. A task may run on
// any thread, so it may depend on its number but not on its thread. If a task throws, the caller
// rethrows the exception after the other tasks.
//
// Idea: the process has one pool of workers (threads.cpp). Threads claim tasks: each thread begins
// with the tasks that it had in the previous loop, whose data are in its cache, then takes tasks
// that no other thread has begun. So the caller never waits for a worker that the operating system
// has descheduled, on a machine whose cores are busy with other programs. A worker spins for a
// short time until the next loop begins, then sleeps. Source: R. Blumofe, C. Leiserson, Scheduling
// Multithreaded Computations by Work Stealing, 1999; there are no queues here, because all tasks
// are known when a loop begins.
//
// Bound: starting a loop costs about a microsecond if the workers spin, and a system call for each
// worker that sleeps.
#pragma once

#include <algorithm>
#include <cstdint>

namespace needle {

using TaskFunction = void (*)(const void* context, int64_t task);

constexpr int MAX_THREADS = 255;

// The number of threads that a loop may use, including the caller.
int num_threads();
void set_num_threads(int n);  // throws std::invalid_argument unless 1 <= n <= MAX_THREADS

// While an object of this class exists, num_threads() is constant in its thread and in the tasks of
// its loops. A kernel that has allocated something for each task then cannot see another number
// after a set_num_threads() of another thread.
class FixedThreads {
 public:
  FixedThreads();
  explicit FixedThreads(int n);
  ~FixedThreads();
  FixedThreads(const FixedThreads&) = delete;

 private:
  int before_;
};

// Calls function(context, i) for every i in [0, tasks), on up to num_threads() threads. If it is
// called inside of a task, or while another thread uses the pool, the caller runs all tasks itself.
void run_tasks(int64_t tasks, TaskFunction function, const void* context);

// The number of the task that this thread is running; 0 outside of `run_tasks`.
int64_t current_task();

// The functions above as pointers, for a program of needle.jit, which is a library of its own.
struct Threads {
  int (*num_threads)();
  void (*run_tasks)(int64_t, TaskFunction, const void*);
  int64_t (*current_task)();
};

// The number of cheap elements below which starting a second thread costs more than it saves.
// Waking a thread takes some microseconds, in which one core moves about this many floats.
constexpr int64_t PARALLEL_GRAIN = 1 << 15;

// Calls task(i) for every i in [0, tasks), on up to num_threads() threads.
template <typename Task>
void parallel_for(int64_t tasks, const Task& task) {
  const auto call = [](const void* that, int64_t i) { (*static_cast<const Task*>(that))(i); };
  run_tasks(tasks, call, &task);
}

// Calls body(begin, end) on consecutive parts of [0, n). One element costs `cost`, and each part
// costs at least `PARALLEL_GRAIN`. The parts depend only on n, cost and the number of threads.
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
