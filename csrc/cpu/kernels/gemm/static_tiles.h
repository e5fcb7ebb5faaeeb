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

constexpr int64_t MAX_STRIP_TILES = 64;

template <typename T>
struct TilePlan;

// Packs `steps` steps of tiles or of panels, of which all but the last panel of B are equally wide.
template <typename T>
using PackSteps = void (*)(const TilePlan<T>& plan, const T* from, Range range, int64_t steps,
                           T* to);

template <typename T>
struct TilePlan : Plan<T, void (*)(const Tile<T>&)> {
  bool a_direct, b_direct;                   // whether the operand is read in place, not packed
  int64_t careful_steps;                     // for the last panel of a B that is read in place
  int64_t b_pitch;                           // row stride of the last panel of a packed B
  int64_t strip_tiles, group_panels;         // the blocks of C that are finished together
  int64_t slab_panels;                       // the panels of B that are packed together
  int64_t high;                              // the rows of the highest tile
  Pack<T> pack_a[2], pack_b[2];              // one tile or panel, as for `kernels`
  PackSteps<T> pack_a_columns, pack_b_rows;  // all of them, where steps are contiguous
};

// Every tile is copied as if it had HIGH rows. No tile but the last, which has HIGH rows, ends
// where A does.
template <typename T, int HIGH>
void pack_columns(const TilePlan<T>& plan, const T* a, Range tiles, int64_t steps, T* to) {
  int64_t rows[MAX_STRIP_TILES];
  for (int64_t tile = tiles.first; tile < tiles.last; ++tile)
    rows[tile - tiles.first] = plan.row(tile);
  copy_panels<T, HIGH>(
      a, plan.a_col, steps, tiles.last - tiles.first, [&](int64_t tile) { return rows[tile]; }, to);
}

template <typename T, int COLS>
void pack_rows(const TilePlan<T>& plan, const T* b, Range panels, int64_t steps, T* to) {
  copy_panels<T, COLS>(
      b + panels.first * COLS, plan.b_row, steps, panels.last - panels.first,
      [](int64_t panel) { return panel * COLS; }, to);
}

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
  constexpr bool NEIGHBOURS = A_BY_COLUMNS || !A_DIRECT, PACKED = !A_DIRECT && !B_DIRECT;
  // A panel of B (kc x COLS) stays in L1, or with AVX-512 in L2, because its tiles read the panel
  // more slowly; the later parts of k accumulate into C.
  constexpr int64_t MAX_KC = REGISTER_BYTES == 64 ? 512 : 384;
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
  // A strip of A and the block of C that the epilogue gets each take a part of L2 (1 MiB or more
  // where there is AVX-512); a packed slab of B takes a part of L3.
  constexpr int64_t STRIP_BYTES = (REGISTER_BYTES == 64 ? 512 : 192) << 10;
  plan.strip_tiles =
      std::clamp<int64_t>(STRIP_BYTES / (plan.kc * HIGH * sizeof(T)), 1, MAX_STRIP_TILES);
  plan.group_panels =
      std::max<int64_t>((64 << 10) / (plan.strip_tiles * HIGH * COLS * sizeof(T)), 1);
  plan.slab_panels = std::max<int64_t>((4 << 20) / (plan.kc * COLS * sizeof(T)), 1);
  plan.high = HIGH;
  plan.kernels[0][0] = &micro_kernel<T, LOW, COLS, NEIGHBOURS, false, PACKED>;
  plan.kernels[0][1] = &micro_kernel<T, LOW, LAST, NEIGHBOURS, false, PACKED>;
  plan.kernels[1][0] = &micro_kernel<T, HIGH, COLS, NEIGHBOURS, false, PACKED>;
  plan.kernels[1][1] = &micro_kernel<T, HIGH, LAST, NEIGHBOURS, false, PACKED>;
  if constexpr (!A_DIRECT) {
    if constexpr (A_BY_COLUMNS) {
      plan.pack_a_columns = &pack_columns<T, HIGH>;
    } else {
      plan.pack_a[0] = &pack_transposed<T, LOW, HIGH>;
      plan.pack_a[1] = &pack_transposed<T, HIGH, HIGH>;
    }
  }
  if constexpr (!B_DIRECT) {
    if constexpr (Shape::B_COL == 1)
      plan.pack_b_rows = &pack_rows<T, COLS>;
    else
      plan.pack_b[0] = &pack_transposed<T, COLS, Columns<T, COLS>::PITCH>;
    plan.pack_b[1] = pack_for<T, LAST, Columns<T, LAST>::PITCH, Shape::B_COL == 1>();
  }
  return plan;
}

// Packs k steps of some tiles of A, one tile after another.
template <typename T>
T* pack_a(const TilePlan<T>& plan, const T* a, Range tiles, int64_t k) {
  T* const packed = scratch<T>(PACKED_A, plan.strip_tiles * plan.high * plan.kc);
  if (plan.a_row == 1) {
    plan.pack_a_columns(plan, a, tiles, k, packed);
    return packed;
  }
  T* to = packed;
  for (int64_t tile = tiles.first, i = plan.row(tile); tile < tiles.last; ++tile) {
    const int64_t next = plan.row(tile + 1);
    plan.pack_a[next - i > plan.low](a + i * plan.a_row, plan.a_row, k, to);
    to += plan.high * k;
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
  int64_t panel = panels.first;
  if (plan.b_col == 1) {
    const bool partial = plan.is_last(panels.last - 1) && plan.n % plan.cols != 0;
    const int64_t full = panels.last - partial;
    plan.pack_b_rows(plan, b, {panel, full}, k, packed);
    panel = full;
  }
  for (; panel < panels.last; ++panel)
    plan.pack_b[plan.is_last(panel)](b + panel * plan.cols * plan.b_col, stride, k,
                                     packed + (panel - panels.first) * plan.cols * k);
  return packed;
}

// Multiplies one panel of columns for the tiles of a strip. `a` points at the packed or in-place A
// of the strip, `c` at row 0 of C in the columns of the panel.
template <typename T>
void multiply_panel(const TilePlan<T>& plan, Range tiles, int64_t panel, const T* a, T* c,
                    Tile<T>& x) {
  for (int64_t tile = tiles.first, i = plan.row(tile); tile < tiles.last; ++tile) {
    const int64_t next = plan.row(tile + 1), rows = next - i;
    x.a = a;
    x.c = c + i * x.c_row;
    plan.kernels[rows > plan.low][plan.is_last(panel)](x);
    a += plan.a_direct ? rows * plan.a_row : plan.high * x.k;
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
    x.a_step = plan.a_direct ? plan.a_col : plan.high;
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
