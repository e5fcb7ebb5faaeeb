// static_plan.h: how a matrix product of compile-time shape is partitioned and shared among
// threads.
//
// A plan is data that the compiler computes from the shape. The code that executes a plan is
// compiled once for all shapes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pack.h"
#include "sizes.h"

namespace needle::NEEDLE_ISA {

namespace static_gemm_detail {

using namespace gemm_detail;

// ---- Tiles ------------------------------------------------------------------------------------

// Tiles with few rows need more columns: eight independent multiply-adds in flight hide the latency
// of the FMA unit.
constexpr int tile_vectors(int64_t rows) {
  for (int vectors = 4; vectors > 2; --vectors)
    if (rows <= tile_rows(vectors)) return vectors;
  return 2;
}

// The number of tiles that M rows are split into; their heights differ by at most one. It is a
// multiple of four or of two if the tiles are still `high_enough` then, so that threads get equal
// shares.
constexpr int64_t count_tiles(int64_t m, int height, int high_enough) {
  const int64_t least = ceil_div(m, height);
  for (const int64_t multiple : {4, 2}) {
    const int64_t count = ceil_div(least, multiple) * multiple;
    if (m >= count * high_enough) return count;
  }
  return least;
}

// ---- Plans ------------------------------------------------------------------------------------

// How a product is partitioned. C is a grid of tiles (of rows) by panels (of columns). A tile has
// `low` rows or one more; a panel has `cols` columns except for the last one. The micro-kernel is
// chosen by [the tile has low + 1 rows][the panel is the last].
template <typename T, typename Kernel>
struct Plan {
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, c_row;
  int64_t batch, a_batch, b_batch, c_batch;
  int64_t tiles, low;
  int64_t panels, cols;
  int64_t k_parts, kc;
  int64_t pack_a_cost, pack_b_cost;  // for each element, in quarters of a vector multiply-add
  Kernel kernels[2][2];

  // If the dividend fits into 32 bits, the faster 32-bit division is used.
  int64_t row(int64_t tile) const {
    return static_cast<uint64_t>(m * tile) >> 32 ? part_start(m, tiles, tile)
                                                 : uint32_t(m * tile) / uint32_t(tiles);
  }
  int64_t column(int64_t panel) const { return std::min(n, panel * cols); }
  bool is_last(int64_t panel) const { return panel == panels - 1; }
};

// Sets the plan's shape, strides and grid; `kc` is the largest length of a part of k.
template <class Shape, typename T, typename Kernel>
constexpr void set_grid(Plan<T, Kernel>& plan, int64_t tiles, int64_t cols, int64_t kc) {
  plan.m = Shape::M, plan.n = Shape::N, plan.k = Shape::K;
  plan.a_row = Shape::A_ROW, plan.a_col = Shape::A_COL;
  plan.b_row = Shape::B_ROW, plan.b_col = Shape::B_COL;
  plan.c_row = Shape::C_ROW;
  plan.batch = 1;
  if constexpr (requires { Shape::BATCH; }) {
    plan.batch = Shape::BATCH;
    plan.a_batch = Shape::A_BATCH, plan.b_batch = Shape::B_BATCH, plan.c_batch = Shape::C_BATCH;
  }
  plan.tiles = tiles;
  plan.low = Shape::M / tiles;
  plan.panels = ceil_div(Shape::N, cols);
  plan.cols = cols;
  plan.k_parts = ceil_div(Shape::K, kc);
  plan.kc = ceil_div(Shape::K, plan.k_parts);
}

constexpr int64_t PACK_COST = 2;  // measured: 0.4 to 0.6 of a vector multiply-add, from L2 or L3

// A function that is called when rows [i0, i1) and columns [j0, j1) of product `number` are
// complete.
struct Epilogue {
  const void* context;
  void (*call)(const void* context, int64_t number, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
};

template <typename F>
Epilogue epilogue_of(const F& f) {
  return {&f, [](const void* context, int64_t number, int64_t i0, int64_t i1, int64_t j0,
                 int64_t j1) { (*static_cast<const F*>(context))(number, i0, i1, j0, j1); }};
}

// The epilogue of an `f` that does not take the number. Nothing here depends on the shape of the
// product, so that products of several shapes share the code of an epilogue.
template <typename F>
Epilogue epilogue_of_one(const F& f) {
  return {&f, [](const void* context, int64_t, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
            (*static_cast<const F*>(context))(i0, i1, j0, j1);
          }};
}

// The operands of one product of a batch.
template <typename T>
struct Operands {
  const T* a;
  const T* b;
  T* c;
  int64_t number;
  bool accumulate;
};

// ---- Threads ----------------------------------------------------------------------------------

// With fewer multiply-adds than this, starting a second thread costs more time than it saves.
constexpr int64_t MIN_WORK_PER_THREAD = 1 << 17;

// The number of parts that the tiles of all products of a batch (`rows`) and the panels (`cols`)
// are split into.
struct Grid {
  int64_t rows, cols;
};

// The cost of the largest part for each step of k, including its packing, in quarters of a vector
// multiply-add.
template <typename T, typename Kernel>
int64_t part_cost(const Plan<T, Kernel>& plan, Grid grid) {
  constexpr int LANES = REGISTER_BYTES / sizeof(T);
  const int64_t tiles = ceil_div(plan.tiles * plan.batch, grid.rows);
  const int64_t rows = ceil_div(tiles * plan.m, plan.tiles);
  const int64_t cols = std::min(plan.n, ceil_div(plan.panels, grid.cols) * plan.cols);
  return 4 * rows * ceil_div(cols, LANES) + rows * plan.pack_a_cost +
         cols * plan.pack_b_cost * ceil_div(plan.batch, grid.rows);
}

template <typename T, typename Kernel>
Grid choose_grid(const Plan<T, Kernel>& plan, int64_t parts) {
  Grid best{1, 1};
  for (int64_t rows = parts; rows >= 1 && parts > 1; --rows) {
    const Grid grid{std::min(rows, plan.tiles * plan.batch), std::min(parts / rows, plan.panels)};
    if (part_cost(plan, grid) < part_cost(plan, best)) best = grid;
  }
  return best;
}

// Computes part `part` of `parts` of all products of a batch. Tiles are numbered consecutively over
// the whole batch.
template <typename T, class SomePlan>
[[gnu::noinline]] void multiply_part(const SomePlan& plan, Operands<T> of, const Epilogue& epilogue,
                                     int64_t part, int64_t parts) {
  const Grid grid = choose_grid(plan, parts);
  if (part >= grid.rows * grid.cols) return;
  const int64_t row = part / grid.cols, col = part % grid.cols;
  const int64_t last = part_start(plan.tiles * plan.batch, grid.rows, row + 1);
  const Range panels{part_start(plan.panels, grid.cols, col),
                     part_start(plan.panels, grid.cols, col + 1)};
  const Operands<T> first = of;
  for (int64_t tile = part_start(plan.tiles * plan.batch, grid.rows, row); tile < last;) {
    of.number = tile / plan.tiles;
    of.a = first.a + of.number * plan.a_batch;
    of.b = first.b + of.number * plan.b_batch;
    of.c = first.c + of.number * plan.c_batch;
    const int64_t start = of.number * plan.tiles;
    const Range tiles{tile - start, std::min(last - start, plan.tiles)};
    for (int64_t panel = panels.first; panel < panels.last; panel += plan.slab_panels)
      multiply_slab(plan, of, epilogue, tiles,
                    {panel, std::min(panel + plan.slab_panels, panels.last)});
    tile = start + tiles.last;
  }
}

}  // namespace static_gemm_detail

}  // namespace needle::NEEDLE_ISA
