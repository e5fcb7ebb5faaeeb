// threads.cpp: the pool of workers behind threads.h, and the number of threads.
#include "threads.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#include <signal.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

namespace needle {
namespace {

// How long a worker spins for the next loop before it sleeps. Python takes some tens of
// microseconds between two kernels; waking a worker takes about ten.
constexpr std::chrono::microseconds WORKER_SPIN{200};
// How long the caller spins for tasks that workers have begun. If they take longer, the caller
// sleeps: the workers may be waiting for a core, and the caller's core becomes free.
constexpr std::chrono::microseconds CALLER_SPIN{100};
// How long a caller waits for the loop of another thread to end, before it runs its loop without
// workers.
constexpr std::chrono::microseconds OWNER_SPIN{50};
constexpr int64_t MAX_GROUPS = 255;

thread_local int fixed_threads = 0;  // the number of a FixedThreads; 0 if there is none
thread_local bool in_task = false;
thread_local int64_t task_number = 0;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `ready()` is true or `limit` is over. Returns whether it is ready.
template <typename Ready>
bool spin(std::chrono::microseconds limit, const Ready& ready) {
  constexpr int CHECKS = 64;  // between two readings of the clock
  const auto end = std::chrono::steady_clock::now() + limit;
  do {
    for (int i = 0; i < CHECKS; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

// A loop as the workers see it, packed into one word that is read and written atomically.
struct Loop {
  uint64_t number;  // 48 bits: a loop each microsecond for nine years
  int threads;      // the number of threads that may take part
  int groups;       // the number of groups; a group of tasks is claimed as a whole

  uint64_t packed() const {
    return number << 16 | static_cast<uint64_t>(threads) << 8 | static_cast<uint64_t>(groups);
  }
  static Loop unpacked(uint64_t word) {
    return {word >> 16, static_cast<int>(word >> 8 & 255), static_cast<int>(word & 255)};
  }
};

class Pool {
 public:
  // Runs a loop on at most `threads` threads. Returns false if the pool is busy with another loop.
  bool run(int64_t tasks, int threads, TaskFunction function, const void* context) {
    std::unique_lock lock(owner_, std::try_to_lock);
    if (!lock && !spin(OWNER_SPIN, [&] { return lock.try_lock(); })) return false;
    start_workers(threads - 1);
    const Loop loop{++loops_, threads, static_cast<int>(std::min(tasks, MAX_GROUPS))};
    function_ = function;
    context_ = context;
    tasks_ = tasks;
    num_threads_ = num_threads();
    error_ = nullptr;
    done_.store(0, std::memory_order_relaxed);
    loop_.store(loop.packed(), std::memory_order_seq_cst);
    for (int i = 1; i <= std::min(workers_, threads - 1); ++i) wake(i);
    take_part(loop, 0);
    wait_for_workers(loop.groups);
    if (error_) std::rethrow_exception(error_);
    return true;
  }

 private:
  // Each of these has a cache line of its own, which avoids false sharing.
  struct alignas(64) Claim {
    std::atomic<uint64_t> loop{0};  // the last loop in which a thread claimed the group
  };
  struct alignas(64) Bed {
    std::atomic<int> asleep{0};
  };

  void start_workers(int wanted) {
    if (workers_ >= std::min(wanted, most_workers_)) return;
#ifndef _WIN32
    sigset_t all, before;  // only Python's threads are to receive signals
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    try {
      while (workers_ < wanted) {
        std::thread([this, number = workers_ + 1] { work(number); }).detach();
        ++workers_;
      }
    } catch (const std::exception&) {  // no more threads are available: the others do the work
      most_workers_ = workers_;
    }
#ifndef _WIN32
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  }

  // The main loop of a worker, which ends with the process.
  [[noreturn]] void work(int number) {
    uint64_t seen = 0;
    const auto has_work = [&] {
      const uint64_t word = loop_.load(std::memory_order_seq_cst);
      return word != seen && number < Loop::unpacked(word).threads;
    };
    while (true) {
      if (!spin(WORKER_SPIN, has_work)) sleep_until(number, has_work);
      seen = loop_.load(std::memory_order_acquire);
      const Loop loop = Loop::unpacked(seen);
      if (number < loop.threads) take_part(loop, number);
    }
  }

  template <typename Ready>
  void sleep_until(int number, const Ready& ready) {
    std::atomic<int>& asleep = beds_[number].asleep;
    asleep.store(1, std::memory_order_seq_cst);
    // The thread that began a loop before this store did not see it and does not wake this worker;
    // ready() sees that loop.
    while (!ready()) {
      asleep.wait(1, std::memory_order_seq_cst);
      asleep.store(1, std::memory_order_seq_cst);
    }
    asleep.store(0, std::memory_order_relaxed);
  }

  void wake(int number) {
    std::atomic<int>& asleep = beds_[number].asleep;
    if (asleep.load(std::memory_order_seq_cst) == 0) return;
    asleep.store(0, std::memory_order_seq_cst);
    asleep.notify_one();
  }

  // Runs this thread's own groups, then those that no thread has begun. When a loop ends, all of
  // its groups are claimed, so that a worker that arrives late finds nothing to do.
  void take_part(const Loop& loop, int thread) {
    const int own = loop.groups * thread / loop.threads;
    for (int i = 0; i < loop.groups; ++i) {
      const int group = own + i < loop.groups ? own + i : own + i - loop.groups;
      if (claim(loop, group)) run_group(group, loop.groups);
    }
  }

  bool claim(const Loop& loop, int group) {
    std::atomic<uint64_t>& claimed = claims_[group].loop;
    uint64_t last = claimed.load(std::memory_order_relaxed);
    return last < loop.number &&
           claimed.compare_exchange_strong(last, loop.number, std::memory_order_acquire);
  }

  void run_group(int group, int groups) {
    in_task = true;
    const FixedThreads threads(num_threads_);
    try {
      for (int64_t i = tasks_ * group / groups; i < tasks_ * (group + 1) / groups; ++i) {
        task_number = i;
        function_(context_, i);
      }
    } catch (...) {
      const std::lock_guard lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
    }
    in_task = false;
    task_number = 0;
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == groups) done_.notify_one();
  }

  void wait_for_workers(int groups) {
    const auto complete = [&] { return done_.load(std::memory_order_acquire) == groups; };
    if (spin(CALLER_SPIN, complete)) return;
    for (int done; (done = done_.load(std::memory_order_acquire)) != groups;) {
      done_.wait(done, std::memory_order_acquire);
    }
  }

  std::mutex owner_;  // held by the thread whose loop is running
  uint64_t loops_ = 0;
  int workers_ = 0, most_workers_ = MAX_THREADS - 1;
  TaskFunction function_ = nullptr;  // this and the next fields belong to the running loop
  const void* context_ = nullptr;
  int64_t tasks_ = 0;
  int num_threads_ = 1;  // num_threads() of the caller
  std::exception_ptr error_;
  std::mutex error_mutex_;
  alignas(64) std::atomic<uint64_t> loop_{0};
  alignas(64) std::atomic<int> done_{0};  // the number of groups that are done
  std::array<Claim, MAX_GROUPS> claims_;
  std::array<Bed, MAX_THREADS> beds_;
};

// The pool is never destroyed, because workers may wait in it until the process has ended.
alignas(Pool) std::byte pool_memory[sizeof(Pool)];
Pool& pool = *new (pool_memory) Pool;

// ---- number of threads ------------------------------------------------------------------------

// The value of an environment variable that holds a positive integer; 0 if it is not set.
int from_environment(const char* name) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : 0;
}

int usable_cores() {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return CPU_COUNT(&allowed);
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

int default_threads() {
  if (const char* wanted = std::getenv("NEEDLE_NUM_THREADS")) {
    const int n = from_environment("NEEDLE_NUM_THREADS");
    if (n >= 1 && n <= MAX_THREADS) return n;
    throw std::invalid_argument("NEEDLE_NUM_THREADS must be an integer from 1 to " +
                                std::to_string(MAX_THREADS) + ", got '" + std::string(wanted) +
                                "'");
  }
  const int n = from_environment("OMP_NUM_THREADS");  // the usual variable of numerical programs
  return std::min(n >= 1 ? n : usable_cores(), MAX_THREADS);
}

std::atomic<int>& thread_count() {
  static std::atomic<int> count = default_threads();
  return count;
}

#ifndef _WIN32
// A forked child has no workers. It begins with one thread, because it usually runs beside other
// forked processes.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  new (pool_memory) Pool;
  thread_count() = 1;
  fixed_threads = 0;
  in_task = false;
});
#endif

}  // namespace

int num_threads() {
  return fixed_threads != 0 ? fixed_threads : thread_count().load(std::memory_order_relaxed);
}

void set_num_threads(int n) {
  if (n < 1 || n > MAX_THREADS) {
    throw std::invalid_argument("[set_num_threads] n must be from 1 to " +
                                std::to_string(MAX_THREADS) + ", got " + std::to_string(n));
  }
  thread_count() = n;
}

FixedThreads::FixedThreads() : FixedThreads(num_threads()) {}
FixedThreads::FixedThreads(int n) : before_(fixed_threads) { fixed_threads = n; }
FixedThreads::~FixedThreads() { fixed_threads = before_; }

int64_t current_task() { return task_number; }

void run_tasks(int64_t tasks, TaskFunction function, const void* context) {
  const int threads = static_cast<int>(std::min<int64_t>(num_threads(), tasks));
  if (threads > 1 && !in_task && pool.run(tasks, threads, function, context)) return;
  const int64_t outer = task_number;
  for (int64_t i = 0; i < tasks; ++i) {
    task_number = i;
    function(context, i);
  }
  task_number = outer;
}

}  // namespace needle
