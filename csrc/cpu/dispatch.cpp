// dispatch.cpp: which instruction set runs, and on how many threads.
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif

#include "kernels.h"
#include "threads.h"

namespace needle {

extern const KernelTable TABLE_AVX512, TABLE_AVX2, TABLE_NEON, TABLE_PORTABLE;

namespace {

struct Level {
  const KernelTable* table;
  bool available;
};

// From the fastest to the one that every processor has.
template <typename Visit>
const KernelTable* find_level(const Visit& visit) {
  const Level levels[] = {
#if defined(NEEDLE_X86)
      {&TABLE_AVX512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")},
      {&TABLE_AVX2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#elif defined(NEEDLE_NEON)
      {&TABLE_NEON, true},
#endif
      {&TABLE_PORTABLE, true}};
  for (const Level& level : levels) {
    if (level.available && visit(*level.table)) return level.table;
  }
  return nullptr;
}

const KernelTable& choose() {
  const char* wanted = std::getenv("NEEDLE_SIMD");
  const KernelTable* found = find_level(
      [&](const KernelTable& table) { return !wanted || std::string(wanted) == table.name; });
  if (found) return *found;
  std::string names;
  find_level([&](const KernelTable& table) {
    names += std::string(names.empty() ? "" : ", ") + table.name;
    return false;
  });
  throw std::invalid_argument("NEEDLE_SIMD is '" + std::string(wanted) +
                              "', but this processor has " + names);
}

int default_threads() {
  if (const char* wanted = std::getenv("NEEDLE_NUM_THREADS")) {
    const int n = std::atoi(wanted);
    if (n < 1) {
      throw std::invalid_argument("NEEDLE_NUM_THREADS must be an integer >= 1, got '" +
                                  std::string(wanted) + "'");
    }
    return n;
  }
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

std::atomic<int>& thread_count() {
  static std::atomic<int> count = default_threads();
  return count;
}

#ifndef _WIN32
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { thread_count() = 1; });
#endif

}  // namespace

const KernelTable& kernels() {
  static const KernelTable& table = choose();
  return table;
}

int num_threads() { return thread_count().load(std::memory_order_relaxed); }

void set_num_threads(int n) { thread_count() = n; }

}  // namespace needle
