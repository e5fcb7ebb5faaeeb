// micro_kernel.h: one register tile of C = A B, the inner loop of every matrix product.
//
// Contract: see Tile. A micro-kernel reads and writes exactly ROWS x COLS elements of C. It reads B
// in whole vectors, and so up to Columns::PITCH elements of each row; only in the last
// `careful_steps` rows it reads no element past the last column.
//
// Idea: the loop over k accumulates outer products, a column of A times a row of B. Each is loaded
// once for the whole tile (Goto & van de Geijn 2008). A micro-kernel depends only on the size of
// its tile, not on the shape of the product, so that gemm.h, static_gemm.h and static_convolution.h
// share them.
//
// Bound: the FMA rate (peak.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "../vectors.h"
#include "sizes.h"

namespace needle::NEEDLE_ISA {

namespace gemm_detail {

using vectors::load, vectors::load_first, vectors::store, vectors::Vector;

// Column p of A starts at a + p * a_step, row p of B at b + p * b_step. A micro-kernel with RUNS
// sums `runs` such products into one tile: after every k steps, a_jump and b_jump lead to the start
// of the next run. This is the batch-reduce product of Georganas et al. (2020, "Harnessing Deep
// Learning via a Single Building Block").
template <typename T>
struct Tile {
  int64_t k;
  const T* a;
  int64_t a_row, a_step;
  const T* b;
  int64_t b_step;
  T* c;
  int64_t c_row;
  bool accumulate;        // adds the sums to C, or to a bias
  const T* bias;          // null, or the row to which the sums are added instead of C
  int64_t careful_steps;  // the last rows of B in a run, not read past the last column
  int64_t runs, a_jump, b_jump;
};

// The ROWS elements of a column of A. They are adjacent in memory, or one row stride apart. Seven
// rows need only three registers for their offsets besides the base, since an x86 address may scale
// its index by 2 and 4.
template <typename T, int ROWS, bool NEIGHBOURS>
class ColumnOfA {
 public:
  explicit ColumnOfA(const Tile<T>& x)
      : first_(reinterpret_cast<const char*>(x.a)),
        step_(x.a_step * sizeof(T)),
        once_(x.a_row * sizeof(T)),
        thrice_(3 * once_),
        five_(5 * once_) {
    // The empty asm hides the values from the compiler, which would otherwise keep a pointer for
    // every row.
    asm("" : "+r"(once_), "+r"(thrice_), "+r"(five_));
    second_ = first_ + 7 * once_;
  }

  [[gnu::always_inline]] T operator[](int i) const {
    if constexpr (NEIGHBOURS) return load<T>(reinterpret_cast<const T*>(first_) + i);
    const char* base = i < 7 ? first_ : second_;
    return load<T>(reinterpret_cast<const T*>(base + offset(i % 7)));
  }

  [[gnu::always_inline]] void prefetch(int steps) const {
    __builtin_prefetch(first_ + steps * step_);
  }

  [[gnu::always_inline]] void advance() { move(NEIGHBOURS ? step_ : sizeof(T)); }

  [[gnu::always_inline]] void move(int64_t bytes) {
    first_ += bytes;
    if constexpr (!NEIGHBOURS && ROWS > 7) second_ += bytes;
  }

 private:
  [[gnu::always_inline]] int64_t offset(int row) const {
    switch (row) {
      case 0:
        return 0;
      case 1:
        return once_;
      case 2:
        return 2 * once_;
      case 3:
        return thrice_;
      case 4:
        return 4 * once_;
      case 5:
        return five_;
      default:
        return 2 * thrice_;
    }
  }

  const char *first_, *second_;
  int64_t step_, once_, thrice_, five_;
};

// c = sum over k of a[:, p] b[p, :], a column of ROWS elements times a row of COLS elements. With
// `accumulate`, the sum is added to the bias or to c.
template <typename T, int ROWS, int COLS, bool NEIGHBOURS, bool RUNS = false>
[[gnu::noinline]] void micro_kernel(const Tile<T>& x) {
  using In = Columns<T, COLS>;
  constexpr int LANES = In::LANES, FULL = In::FULL, REST = In::REST;
  constexpr int EDGE_LANES = REST ? In::EDGE_LANES : LANES;
  using V = Vector<T, LANES * sizeof(T)>;
  using Edge = Vector<T, EDGE_LANES * sizeof(T)>;
  V sum[ROWS][FULL + 1] = {};
  Edge edge_sum[ROWS] = {};
  ColumnOfA<T, ROWS, NEIGHBOURS> a(x);
  const T* b = x.b;
  const int64_t b_step = x.b_step;
  int64_t ahead = 8 * b_step;
  asm("" : "+r"(ahead));  // one register for both prefetches

  const auto add_products = [&](const Edge edge) __attribute__((always_inline)) {
    V row[FULL + 1];
#pragma GCC unroll 16
    for (int j = 0; j < FULL; ++j) row[j] = load<V>(b + j * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const T element = a[i];
#pragma GCC unroll 16
      for (int j = 0; j < FULL; ++j) sum[i][j] += element * row[j];
      if constexpr (REST != 0) edge_sum[i] += element * edge;
    }
    a.advance();
    b += b_step;
  };

  for (int64_t run = RUNS ? x.runs : 1; run > 0; --run) {
    for (int64_t steps = x.k - x.careful_steps; steps > 0; --steps) {
      if constexpr (NEIGHBOURS) a.prefetch(16);
      __builtin_prefetch(b + ahead);
      if constexpr (COLS * sizeof(T) > CACHE_LINE)
        __builtin_prefetch(b + ahead + CACHE_LINE / sizeof(T));
      if constexpr (REST != 0)
        add_products(load<Edge>(b + FULL * LANES));
      else
        add_products(Edge{});
    }
    if constexpr (REST != EDGE_LANES && REST != 0) {
      for (int64_t steps = x.careful_steps; steps > 0; --steps)
        add_products(load_first<Edge, REST>(b + FULL * LANES));
    }
    if constexpr (RUNS) {
      a.move(x.a_jump * sizeof(T));
      b += x.b_jump;
    }
  }

  if (x.accumulate) {
    const T* addend = x.bias ? x.bias : x.c;
    const int64_t addend_row = x.bias ? 0 : x.c_row;
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i, addend += addend_row) {
#pragma GCC unroll 16
      for (int j = 0; j < FULL; ++j) sum[i][j] += load<V>(addend + j * LANES);
      if constexpr (REST != 0) edge_sum[i] += load_first<Edge, REST>(addend + FULL * LANES);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
    T* c = x.c + i * x.c_row;
#pragma GCC unroll 16
    for (int j = 0; j < FULL; ++j) store(c + j * LANES, sum[i][j]);
    if constexpr (REST != 0) std::memcpy(c + FULL * LANES, &edge_sum[i], REST * sizeof(T));
  }
}
}  // namespace gemm_detail

}  // namespace needle::NEEDLE_ISA
