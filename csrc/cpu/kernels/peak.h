// peak.h: the peak FLOP/s of the cores, against which benchmarks/matmul.py compares.
//
// Contract: runs for about `seconds` on all threads and returns the sum of their rates. The loop
// has no memory traffic. Its twelve independent multiply-add chains are more than latency times
// throughput of the FMA units of current cores (Zen 4: 4 x 2, Skylake-X: 4 x 2, Apple M: 4 x 4 at a
// quarter of the width), so that only the number of FMA units bounds it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "../simd.h"
#include "../threads.h"

namespace needle::NEEDLE_ISA {

namespace peak_detail {

constexpr int CHAINS = 12;

// Runs x = x / 2 + term `steps` times on each chain. Every x tends to 2 * term, so that half the
// mean of the chains is `term`. The caller passes it to the next call, so that the compiler can
// eliminate neither call.
template <typename T>
[[gnu::noinline]] T fma_chains(int64_t steps, T term) {
  using Vec [[gnu::vector_size(REGISTER_BYTES)]] = T;
  Vec chain[CHAINS];
  for (int i = 0; i < CHAINS; ++i) chain[i] = Vec{} + static_cast<T>(i);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; ++i) chain[i] = chain[i] * T(0.5) + term;
  }
  Vec total{};
  for (int i = 0; i < CHAINS; ++i) total += chain[i];
  return total[0] / (2 * CHAINS);
}

}  // namespace peak_detail

template <typename T = float>
double peak_flops(double seconds) {
  using namespace peak_detail;
  using Clock = std::chrono::steady_clock;
  constexpr int64_t STEPS = 1 << 16;  // a few hundred microseconds between readings of the clock
  constexpr double FLOPS = 2.0 * STEPS * CHAINS * (REGISTER_BYTES / sizeof(T));

  std::atomic<double> rate{0.0};
  std::atomic<T> sink;  // written, never read
  parallel_for(num_threads(), [&](int) {
    const auto start = Clock::now();
    int64_t rounds = 0;
    double elapsed = 0.0;
    T term = 1;
    while (elapsed < seconds) {
      term = fma_chains(STEPS, term);
      ++rounds;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    sink.store(term, std::memory_order_relaxed);
    rate.fetch_add(rounds * FLOPS / elapsed, std::memory_order_relaxed);
  });
  return rate.load();
}

}  // namespace needle::NEEDLE_ISA
