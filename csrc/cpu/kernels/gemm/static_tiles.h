// static_tiles.h: matrix products of compile-time shape as register tiles of outer products, the
// usual method.
#pragma once

#include <algorithm>
#include <cstdint>

#include "micro_kernel.h"
#include "pack.h"
#include "scratch.h"
#include "static_plan.h"

namespace needle::NEEDLE_ISA {

namespace static_gemm_detail {

using namespace gemm_detail;

template <typename T>
struct TilePlan : Plan<T, void (*)(const Tile<T>&)> {
  bool a_direct, b_direct;            // whether the operand is read in place, not packed
  int64_t careful_steps;              // for the last panel of a B that is read in place
  int64_t b_pitch;                    // row stride of the last panel of a packed B
  int64_t strip_tiles, group_panels;  // the blocks of C that are finished together
  int64_t slab_panels;                // the panels of B that are packed together
  int64_t pack_b_run;                 // steps packed at a time
  Pack<T> pack_a[2], pack_b[2];
};

template <class Shape, typename T>
constexpr TilePlan<T> make_tile_plan() {
  constexpr int LANES = REGISTER_BYTES / sizeof(T), VECTORS = tile_vectors(Shape::M);
  constexpr int COLS = std::min<int64_t>(VECTORS * LANES, Shape::N);
  constexpr int HEIGHT = tile_rows(VECTORS);
  constexpr int64_t TILES = count_tiles(Shape::M, HEIGHT, HEIGHT * 3 / 4);
  constexpr int LOW = Shape::M / TILES, HIGH = ceil_div(Shape::M, TILES);
  constexpr int LAST = (Shape::N - 1) % COLS + 1;
  constexpr bool A_BY_COLUMNS = Shape::A_ROW == 1;
  constexpr bool A_DIRECT = reads_a_in_place(
      Shape::N, COLS, A_BY_COLUMNS, (A_BY_COLUMNS ? Shape::A_COL : Shape::A_ROW) * sizeof(T));
  constexpr bool B_DIRECT =
      Shape::B_COL == 1 && reads_b_in_place(Shape::M, Shape::N, Shape::K, Shape::B_ROW * sizeof(T));
  constexpr bool NEIGHBOURS = A_BY_COLUMNS || !A_DIRECT;
  // A panel of B (kc x COLS) stays in cache; the later parts of k accumulate into C.
  constexpr int64_t MAX_KC = 512;
  TilePlan<T> plan{};
  set_grid<Shape>(plan, TILES, COLS, MAX_KC);
  plan.a_direct = A_DIRECT;
  plan.b_direct = B_DIRECT;
  plan.pack_a_cost = plan.a_direct ? 0 : PACK_COST;
  plan.pack_b_cost = plan.b_direct ? 0 : PACK_COST;
  // A vector of the last panel reads past the end of its row. It must not do so in the last rows,
  // which may end where the memory of B ends.
  plan.careful_steps = ceil_div(Columns<T, LAST>::PITCH - LAST, Shape::B_ROW);
  plan.b_pitch = Columns<T, LAST>::PITCH;
  // A strip of A and the block of C that the epilogue gets each take a part of a 1 MiB L2; a packed
  // slab of B takes a part of L3.
  plan.strip_tiles = std::clamp<int64_t>((192 << 10) / (plan.kc * HIGH * sizeof(T)), 1, 8);
  plan.group_panels =
      std::max<int64_t>((64 << 10) / (plan.strip_tiles * HIGH * COLS * sizeof(T)), 1);
  plan.slab_panels = std::max<int64_t>((2 << 20) / (plan.kc * COLS * sizeof(T)), 1);
  // A row-major B is read a few rows at a time along their whole length, the pattern that hardware
  // prefetchers detect.
  plan.pack_b_run = Shape::B_COL == 1 ? 4 : plan.kc;
  plan.kernels[0][0] = &micro_kernel<T, LOW, COLS, NEIGHBOURS>;
  plan.kernels[0][1] = &micro_kernel<T, LOW, LAST, NEIGHBOURS>;
  plan.kernels[1][0] = &micro_kernel<T, HIGH, COLS, NEIGHBOURS>;
  plan.kernels[1][1] = &micro_kernel<T, HIGH, LAST, NEIGHBOURS>;
  if constexpr (!A_DIRECT) {
    plan.pack_a[0] = pack_for<T, LOW, LOW, A_BY_COLUMNS>();
    plan.pack_a[1] = pack_for<T, HIGH, HIGH, A_BY_COLUMNS>();
  }
  if constexpr (!B_DIRECT) {
    plan.pack_b[0] = pack_for<T, COLS, Columns<T, COLS>::PITCH, Shape::B_COL == 1>();
    plan.pack_b[1] = pack_for<T, LAST, Columns<T, LAST>::PITCH, Shape::B_COL == 1>();
  }
  return plan;
}

// Packs k steps of some tiles of A, one tile after another.
template <typename T>
T* pack_a(const TilePlan<T>& plan, const T* a, Range tiles, int64_t k) {
  T* const packed = scratch<T>(PACKED_A, plan.strip_tiles * (plan.low + 1) * plan.kc);
  T* to = packed;
  for (int64_t tile = tiles.first, i = plan.row(tile); tile < tiles.last; ++tile) {
    const int64_t next = plan.row(tile + 1);
    plan.pack_a[next - i > plan.low](a + i * plan.a_row, plan.a_row == 1 ? plan.a_col : plan.a_row,
                                     k, to);
    to += (next - i) * k;
    i = next;
  }
  return packed;
}

// Packs k steps of some panels of B, one panel after another.
template <typename T>
T* pack_b(const TilePlan<T>& plan, const T* b, Range panels, int64_t k) {
  T* const packed = scratch<T>(PACKED_B, std::min(plan.slab_panels, plan.panels) * plan.kc *
                                             std::max(plan.cols, plan.b_pitch));
  const int64_t stride = plan.b_col == 1 ? plan.b_row : plan.b_col;
  for (int64_t p = 0; p < k; p += plan.pack_b_run) {
    const int64_t steps = std::min(plan.pack_b_run, k - p);
    for (int64_t panel = panels.first; panel < panels.last; ++panel) {
      const bool last = plan.is_last(panel);
      plan.pack_b[last](
          b + p * plan.b_row + panel * plan.cols * plan.b_col, stride, steps,
          packed + (panel - panels.first) * plan.cols * k + p * (last ? plan.b_pitch : plan.cols));
    }
  }
  return packed;
}

// Multiplies one panel of columns for the tiles of a strip. `a` points at the packed or in-place A
// of the strip, `c` at row 0 of C in the columns of the panel.
template <typename T>
void multiply_panel(const TilePlan<T>& plan, Range tiles, int64_t panel, const T* a, T* c,
                    Tile<T>& x) {
  for (int64_t tile = tiles.first, i = plan.row(tile); tile < tiles.last; ++tile) {
    const int64_t next = plan.row(tile + 1), rows = next - i;
    if (!plan.a_direct) x.a_step = rows;
    x.a = a;
    x.c = c + i * x.c_row;
    plan.kernels[rows > plan.low][plan.is_last(panel)](x);
    a += rows * (plan.a_direct ? plan.a_row : x.k);
    i = next;
  }
}

// Computes the rows of `tiles` and the columns of `panels` of one product.
template <typename T>
void multiply_slab(const TilePlan<T>& plan, const Operands<T>& of, const Epilogue& epilogue,
                   Range tiles, Range panels) {
  for (int64_t part = 0; part < plan.k_parts; ++part) {
    const int64_t p = part_start(plan.k, plan.k_parts, part);
    const bool last_part = part == plan.k_parts - 1;
    Tile<T> x{};
    x.k = part_start(plan.k, plan.k_parts, part + 1) - p;
    x.a_row = plan.a_direct ? plan.a_row : 1;
    x.a_step = plan.a_col;
    x.c_row = plan.c_row;
    x.accumulate = of.accumulate || part > 0;
    const T* b = of.b + p * plan.b_row;
    if (!plan.b_direct) b = pack_b(plan, b, panels, x.k);
    for (int64_t tile = tiles.first; tile < tiles.last; tile += plan.strip_tiles) {
      const Range strip{tile, std::min(tile + plan.strip_tiles, tiles.last)};
      const T* a = of.a + p * plan.a_col;
      a = plan.a_direct ? a + plan.row(tile) * plan.a_row : pack_a(plan, a, strip, x.k);
      for (int64_t group = panels.first; group < panels.last; group += plan.group_panels) {
        const int64_t end = std::min(group + plan.group_panels, panels.last);
        for (int64_t panel = group; panel < end; ++panel) {
          const bool last = plan.is_last(panel);
          if (plan.b_direct) {
            x.b = b + panel * plan.cols;
            x.b_step = plan.b_row;
            x.careful_steps = last && last_part ? std::min(plan.careful_steps, x.k) : 0;
          } else {
            x.b = b + (panel - panels.first) * plan.cols * x.k;
            x.b_step = last ? plan.b_pitch : plan.cols;
          }
          multiply_panel(plan, strip, panel, a, of.c + panel * plan.cols, x);
        }
        if (last_part)
          epilogue.call(epilogue.context, of.number, plan.row(strip.first), plan.row(strip.last),
                        plan.column(group), plan.column(end));
      }
    }
  }
}

// ---- Few columns ------------------------------------------------------------------------------

// The shape of the product C^T = B^T A^T. The few columns of C become its rows. Its vectors lie
// along M, so that none of them is partly empty. The products of a batch share one buffer for C^T.
template <class Shape>
struct Swapped {
  static constexpr int64_t M = Shape::N, N = Shape::M, K = Shape::K;
  static constexpr int64_t A_ROW = Shape::B_COL, A_COL = Shape::B_ROW;
  static constexpr int64_t B_ROW = Shape::A_COL, B_COL = Shape::A_ROW;
  static constexpr int64_t C_ROW = N;
};
template <class Shape>
  requires requires { Shape::BATCH; }
struct Swapped<Shape> {
  static constexpr int64_t M = Shape::N, N = Shape::M, K = Shape::K, BATCH = Shape::BATCH;
  static constexpr int64_t A_ROW = Shape::B_COL, A_COL = Shape::B_ROW, A_BATCH = Shape::B_BATCH;
  static constexpr int64_t B_ROW = Shape::A_COL, B_COL = Shape::A_ROW, B_BATCH = Shape::A_BATCH;
  static constexpr int64_t C_ROW = N, C_BATCH = 0;
};

// Transposes some rows and columns of C^T (N, M) into C, or adds them to C.
template <class Shape, bool ACCUMULATE, typename T>
void transpose_back(const T* transposed, T* c, Range rows, Range columns) {
  if constexpr (ACCUMULATE) {
    for (int64_t i = columns.first; i < columns.last; ++i)
      for (int64_t j = rows.first; j < rows.last; ++j)
        c[i * Shape::C_ROW + j] += transposed[j * Shape::M + i];
  } else {
    transpose_matrix<T, square_side<T>(Shape::N)>(
        rows.last - rows.first, columns.last - columns.first,
        transposed + rows.first * Shape::M + columns.first, Shape::M,
        c + columns.first * Shape::C_ROW + rows.first, Shape::C_ROW);
  }
}

}  // namespace static_gemm_detail

}  // namespace needle::NEEDLE_ISA
