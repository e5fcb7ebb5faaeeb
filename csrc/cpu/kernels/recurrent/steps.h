// steps.h: distributes the time steps of a recurrent layer among threads.
//
// Contract: each step computes every group of units once, and begins only when the previous step is
// complete.
//
// Idea: a thread computes the same groups in every step, so that their weights stay in its cache.
// Threads synchronize after each step within one parallel region, instead of starting a parallel
// region for each step. A thread that has waited long takes groups that no other thread has begun.
// So a thread that the operating system has descheduled, on a machine with fewer free cores than
// threads, does not delay the others.
//
// Bound: a step costs the groups of the slowest thread and one read of each thread's counter.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "../../threads.h"
#include "../gemm/sizes.h"

namespace needle::NEEDLE_ISA {

namespace recurrent_detail {

using gemm_detail::part_start;

// The smallest number of multiply-adds that is worth a thread.
constexpr int64_t MIN_THREAD_WORK = 1 << 17;

// Decides which thread computes which group of units in each step. A thread first takes its own
// groups, which are the same in every step. When it has waited long for the others, it takes the
// groups that they have not begun (work stealing), so that a descheduled thread does not delay the
// others.
class Groups {
 public:
  Groups(int64_t count, int threads) : taken_(count), done_(threads) {}

  // Calls work(step, group, first) for all groups in each of `steps` steps. All `threads` threads
  // call this function together. `first` is true for a thread's first group of a step. A step
  // begins when the previous one is complete. If one thread throws, the others return.
  template <typename Work>
  void run(int64_t steps, int thread, int threads, const Work& work) {
    try {
      run_groups(steps, thread, threads, work);
    } catch (...) {
      abandoned_ = true;
      throw;
    }
  }

 private:
  static constexpr int PATIENCE = 1 << 12;

  template <typename Work>
  void run_groups(int64_t steps, int thread, int threads, const Work& work) {
    const int64_t count = taken_.size();
    for (int64_t step = 0; step < steps; ++step) {
      bool first = true;
      const auto compute = [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group) {
          if (!take(step, group)) continue;
          work(step, group, first);
          first = false;
          done_[thread].value.fetch_add(1, std::memory_order_release);
        }
      };
      compute(part_start(count, threads, thread), part_start(count, threads, thread + 1));
      for (int tries = 0; groups_done() < (step + 1) * count; ++tries) {
        if (abandoned_.load(std::memory_order_relaxed)) return;
        if (tries < PATIENCE) continue;
        compute(0, count);
        std::this_thread::yield();
      }
    }
  }

  // Each counter has a cache line of its own, which avoids false sharing.
  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };

  bool take(int64_t step, int64_t group) {
    std::atomic<int64_t>& steps_taken = taken_[group].value;
    return steps_taken.load(std::memory_order_relaxed) == step &&
           steps_taken.compare_exchange_strong(step, step + 1, std::memory_order_relaxed);
  }
  int64_t groups_done() const {
    int64_t sum = 0;
    for (const Counter& done : done_) sum += done.value.load(std::memory_order_acquire);
    return sum;
  }

  std::vector<Counter> taken_;  // for each group: how many of its steps have been taken
  std::vector<Counter> done_;   // for each thread: how many groups it has computed
  std::atomic<bool> abandoned_{false};
};

// The number of threads that `work` multiply-adds are worth.
inline int useful_threads(int64_t work) {
  return static_cast<int>(std::clamp<int64_t>(work / MIN_THREAD_WORK, 1, num_threads()));
}

// Calls Groups::run on as many threads as a step of `step_work` multiply-adds is worth.
template <typename Work>
void run_steps(int64_t steps, int64_t groups, int64_t step_work, const Work& work) {
  const int threads = static_cast<int>(std::min<int64_t>(useful_threads(step_work), groups));
  Groups all(groups, threads);
  parallel_for(threads,
               [&](int64_t thread) { all.run(steps, static_cast<int>(thread), threads, work); });
}

}  // namespace recurrent_detail

}  // namespace needle::NEEDLE_ISA
