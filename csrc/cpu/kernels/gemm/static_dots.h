// static_dots.h: matrix products of compile-time shape as register tiles of dot products.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "../vectors.h"
#include "pack.h"
#include "scratch.h"
#include "static_plan.h"

namespace needle::NEEDLE_ISA {

namespace static_gemm_detail {

using namespace gemm_detail;

using vectors::keep_in_register, vectors::swap_lanes;

// Row i of A starts at a + i * a_row, column j of B at b + j * b_col.
template <typename T>
struct DotTile {
  int64_t k;
  const T* a;
  int64_t a_row;
  const T* b;
  int64_t b_col;
  T* c;
  int64_t c_row;
  bool accumulate;
};

// Horizontal sums: lane l of v[g] becomes the sum of the lanes of the former v[g * LANES + l].
template <int DISTANCE, typename V, int COUNT>
[[gnu::always_inline]] inline void sum_lanes(V (&v)[COUNT], int count) {
  constexpr int LANES = sizeof(V) / sizeof(v[0][0]);
  if constexpr (DISTANCE < LANES) {
#pragma GCC unroll 32
    for (int i = 0; i < count; i += 2) {
      const V odd = i + 1 < count ? v[i + 1] : V{};
      const auto [low, high] =
          swap_lanes<DISTANCE>(v[i], odd, std::make_integer_sequence<int, LANES>{});
      v[i / 2] = low + high;
    }
    sum_lanes<DISTANCE * 2>(v, (count + 1) / 2);
  }
}

template <typename T, int ROWS, int COLS>
[[gnu::noinline]] void dot_kernel(const DotTile<T>& x) {
  constexpr int LANES = REGISTER_BYTES / sizeof(T), COUNT = ROWS * COLS;
  using V = Vector<T, LANES * sizeof(T)>;
  using Mask = decltype(V{} < V{});
  V sum[COUNT] = {};
  const auto add_products = [&](int64_t p, auto&& load_at) __attribute__((always_inline)) {
    V column[COLS];
#pragma GCC unroll 8
    for (int j = 0; j < COLS; ++j) {
      column[j] = load_at(x.b + j * x.b_col + p);
      keep_in_register(column[j]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
      const V row = load_at(x.a + i * x.a_row + p);
#pragma GCC unroll 8
      for (int j = 0; j < COLS; ++j) sum[i * COLS + j] += row * column[j];
    }
  };
  const int64_t rest = x.k % LANES;
  for (int64_t p = 0; p < x.k - rest; p += LANES)
    add_products(p, [](const T* from) { return load<V>(from); });
  if (rest != 0) {  // the last LANES elements; those already summed are masked
    Mask fresh;
    for (int lane = 0; lane < LANES; ++lane) fresh[lane] = lane >= LANES - rest ? -1 : 0;
    add_products(x.k - LANES, [&](const T* from) {
      return std::bit_cast<V>(std::bit_cast<Mask>(load<V>(from)) & fresh);
    });
  }
  sum_lanes<1>(sum, COUNT);
  T total[ceil_div(COUNT, LANES) * LANES];
  for (int i = 0; i < ceil_div(COUNT, LANES); ++i) store(total + i * LANES, sum[i]);
  for (int i = 0; i < ROWS; ++i) {
    T* c = x.c + i * x.c_row;
    for (int j = 0; j < COLS; ++j)
      c[j] = x.accumulate ? c[j] + total[i * COLS + j] : total[i * COLS + j];
  }
}

// A plan of register tiles of dot products, for operands that are contiguous along k. Nothing is
// packed, and vectors are full even if C has few columns.
template <typename T>
struct DotPlan : Plan<T, void (*)(const DotTile<T>&)> {
  int64_t strip_tiles, slab_panels;
};

template <class Shape, typename T>
constexpr DotPlan<T> make_dot_plan() {
  // The registers hold SIDE^2 accumulators, SIDE vectors of B and one of A.
  constexpr int SIDE = REGISTERS == 32 ? 5 : 3;
  constexpr int64_t TILES = ceil_div(Shape::M, SIDE);
  constexpr int LOW = Shape::M / TILES, HIGH = ceil_div(Shape::M, TILES);
  constexpr int COLS = ceil_div(Shape::N, ceil_div(Shape::N, SIDE));
  constexpr int LAST = (Shape::N - 1) % COLS + 1;
  // A few columns stay in L1 next to a tile of A. If there are more, they come from L2 once for
  // each part of k.
  constexpr int64_t MAX_KC = Shape::N <= 14 ? 512 : 1024;
  DotPlan<T> plan{};
  set_grid<Shape>(plan, TILES, COLS, MAX_KC);
  plan.pack_b_cost = Shape::B_ROW == 1 ? 0 : PACK_COST;
  // The operand with more tiles is read once; the other one stays in cache.
  plan.strip_tiles = plan.panels <= TILES ? 1 : TILES;
  plan.slab_panels = std::max<int64_t>((64 << 10) / (Shape::M * COLS * sizeof(T)), 1);
  plan.kernels[0][0] = &dot_kernel<T, LOW, COLS>;
  plan.kernels[0][1] = &dot_kernel<T, LOW, LAST>;
  plan.kernels[1][0] = &dot_kernel<T, HIGH, COLS>;
  plan.kernels[1][1] = &dot_kernel<T, HIGH, LAST>;
  return plan;
}

// packed[j][p] = b[p][j]. The columns of a row-major B become contiguous, as dot products need
// them.
template <typename T>
T* pack_columns(const DotPlan<T>& plan, const T* b, int64_t k) {
  T* packed = scratch<T>(PACKED_B, plan.n * plan.kc);
  transpose_matrix<T, square_side<T>(REGISTER_BYTES)>(k, plan.n, b, plan.b_row, packed, k);
  return packed;
}

template <typename T>
void multiply_slab(const DotPlan<T>& plan, const Operands<T>& of, const Epilogue& epilogue,
                   Range tiles, Range panels) {
  for (int64_t part = 0; part < plan.k_parts; ++part) {
    const int64_t p = part_start(plan.k, plan.k_parts, part);
    DotTile<T> x{};
    x.k = part_start(plan.k, plan.k_parts, part + 1) - p;
    x.a_row = plan.a_row;
    x.c_row = plan.c_row;
    x.accumulate = of.accumulate || part > 0;
    const bool by_columns = plan.b_row == 1;
    x.b_col = by_columns ? plan.b_col : x.k;
    const T* columns = of.b + p * plan.b_row;
    if (!by_columns) columns = pack_columns(plan, columns, x.k);
    for (int64_t strip = tiles.first; strip < tiles.last; strip += plan.strip_tiles) {
      const int64_t end = std::min(strip + plan.strip_tiles, tiles.last);
      for (int64_t panel = panels.first; panel < panels.last; ++panel) {
        x.b = columns + panel * plan.cols * x.b_col;
        for (int64_t tile = strip, i = plan.row(tile); tile < end; ++tile) {
          const int64_t next = plan.row(tile + 1);
          x.a = of.a + i * plan.a_row + p;
          x.c = of.c + i * plan.c_row + panel * plan.cols;
          plan.kernels[next - i > plan.low][plan.is_last(panel)](x);
          i = next;
        }
      }
    }
  }
  epilogue.call(epilogue.context, of.number, plan.row(tiles.first), plan.row(tiles.last),
                plan.column(panels.first), plan.column(panels.last));
}

}  // namespace static_gemm_detail

}  // namespace needle::NEEDLE_ISA
