// steps.h: the steps of a recurrent layer, shared among threads.
//
// Contract: each step computes every group of units once, and begins when the step before is
// complete.
//
// Idea: a thread computes the same groups in every step, so their weights stay in its cache.
// Threads meet after each step in one parallel region, without a loop of the pool for each step. A
// thread that has waited long takes groups that others have not begun: one that the system does not
// run, on a machine with fewer free cores than threads, holds up nobody.
//
// Bound: a step costs the slowest thread's groups and one read of each thread's counter.
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

// A thread is worth while if it has this many multiply-adds to do.
constexpr int64_t MIN_THREAD_WORK = 1 << 17;

// Who computes which group of units in which step. A thread first takes its own groups, the same in
// every step; when it has waited long for the others, it takes what they have not begun: a thread
// that does not run, on a machine with fewer free cores than threads, stops nobody.
class Groups {
 public:
  Groups(int64_t count, int threads) : taken_(count), done_(threads) {}

  // Calls work(step, group, first) for all groups in each of `steps` steps, on the calling threads
  // together; `first` for a thread's first group of a step. A step begins when the one before is
  // complete. If one throws, the others return.
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

  // Alone on its cache line: what one thread writes often does not slow what others do.
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

  std::vector<Counter> taken_;  // of each group: how many steps have been taken
  std::vector<Counter> done_;   // of each thread: how many groups it has computed
  std::atomic<bool> abandoned_{false};
};

// As many threads as are worth while for `work` multiply-adds.
inline int useful_threads(int64_t work) {
  return static_cast<int>(std::clamp<int64_t>(work / MIN_THREAD_WORK, 1, num_threads()));
}

// Groups::run on as many threads as are worth while for a step of `step_work` multiply-adds.
template <typename Work>
void run_steps(int64_t steps, int64_t groups, int64_t step_work, const Work& work) {
  const int threads = static_cast<int>(std::min<int64_t>(useful_threads(step_work), groups));
  Groups all(groups, threads);
  parallel_for(threads,
               [&](int64_t thread) { all.run(steps, static_cast<int>(thread), threads, work); });
}

}  // namespace recurrent_detail

}  // namespace needle::NEEDLE_ISA
