// peak.h: the peak FLOP/s of matrix products, against which benchmarks/products.py compares.
//
// Contract: runs for about `seconds` on all threads and returns the sum of their rates.
//
// Idea: a register tile of C accumulates outer products of operands that stay in the L1 cache
// forever. That is the inner loop of a matrix product without packing, without cache misses and
// without writing C, so that only the number of FMA units and the clock bound it. The operands are
// random and are loaded: multiply-adds of constants in registers draw less power, and a processor
// then runs at a clock that no product reaches (Sapphire Rapids, AVX-512: 3.7 instead of 3.3 GHz).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "../simd.h"
#include "../threads.h"
#include "gemm/sizes.h"
#include "vectors.h"

namespace needle::NEEDLE_ISA {

namespace peak_detail {

using vectors::load, vectors::Vector;

constexpr int VECTORS = 2, ROWS = gemm_detail::tile_rows(VECTORS), STEPS = 32;

template <typename T>
struct Operands {
  static constexpr int LANES = REGISTER_BYTES / sizeof(T);
  alignas(64) T a[STEPS * ROWS];
  alignas(64) T b[STEPS * VECTORS * LANES];

  Operands() {
    uint32_t state = 1;  // a linear congruential generator; its high bits are random enough
    const auto uniform = [&] {
      state = state * 1664525u + 1013904223u;
      return static_cast<T>(static_cast<int32_t>(state)) / T(INT32_MAX);
    };
    for (T& x : a) x = uniform();
    for (T& x : b) x = uniform();
  }
};

// Accumulates the STEPS outer products `rounds` times and returns the sum of the tile, so that the
// compiler cannot eliminate the work.
template <typename T>
[[gnu::noinline]] T accumulate_tile(const Operands<T>& x, int64_t rounds) {
  using V = Vector<T, REGISTER_BYTES>;
  constexpr int LANES = Operands<T>::LANES;
  V sum[ROWS][VECTORS] = {};
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
    for (int p = 0; p < STEPS; ++p) {
      V row[VECTORS];
#pragma GCC unroll 4
      for (int j = 0; j < VECTORS; ++j) row[j] = load<V>(x.b + (p * VECTORS + j) * LANES);
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; ++i) {
        const T element = x.a[p * ROWS + i];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) sum[i][j] += element * row[j];
      }
    }
  }
  V total{};
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < VECTORS; ++j) total += sum[i][j];
  return total[0];
}

}  // namespace peak_detail

template <typename T = float>
double peak_flops(double seconds) {
  using namespace peak_detail;
  using Clock = std::chrono::steady_clock;
  constexpr int64_t ROUNDS = 1 << 10;  // some 100 microseconds between readings of the clock
  constexpr double FLOPS = 2.0 * ROUNDS * STEPS * ROWS * VECTORS * Operands<T>::LANES;

  std::atomic<double> rate{0.0};
  std::atomic<T> sink;  // written, never read
  parallel_for(num_threads(), [&](int) {
    const Operands<T> operands;
    const auto start = Clock::now();
    int64_t rounds = 0;
    double elapsed = 0.0;
    while (elapsed < seconds) {
      sink.store(accumulate_tile(operands, ROUNDS), std::memory_order_relaxed);
      ++rounds;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    rate.fetch_add(rounds * FLOPS / elapsed, std::memory_order_relaxed);
  });
  return rate.load();
}

}  // namespace needle::NEEDLE_ISA
