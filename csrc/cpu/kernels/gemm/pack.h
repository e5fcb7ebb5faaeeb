// pack.h: packing, which copies operands into the order in which the micro-kernels read them.
//
// Contract: in a packed operand the elements of a step (a column of a tile of A, or a row of a
// panel of B) are consecutive in memory, and the steps follow each other. `to` overlaps no other
// operand.
//
// Idea: if the elements of a step are adjacent in memory already, they are copied. Otherwise the
// operand is transposed, in square blocks that fit into the registers.
//
// Bound: 0.4 to 0.6 of the time of a vector multiply-add for each element, read from L2 or L3.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "../vectors.h"
#include "sizes.h"

namespace needle::NEEDLE_ISA {

namespace gemm_detail {

using vectors::load, vectors::store, vectors::transpose, vectors::Vector;

// ---- Transposed and copied matrices -----------------------------------------------------------

// to[j][i] = from[i][j] for `count` square blocks of SIDE rows, which lie side by side.
template <typename T, int SIDE>
[[gnu::noinline]] void transpose_squares(int64_t count, const T* from, int64_t from_row, T* to,
                                         int64_t to_row) {
  using V = Vector<T, SIDE * sizeof(T)>;
  for (; count > 0; --count, from += SIDE, to += SIDE * to_row) {
    V square[SIDE];
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; ++i) square[i] = load<V>(from + i * from_row);
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; ++i) store(to + i * to_row, square[i]);
  }
}

// The side of the square blocks in which a matrix of `rows` rows is transposed; 1 means element by
// element.
template <typename T>
constexpr int square_side(int64_t rows) {
  const int lanes = std::min<int64_t>(std::min(REGISTER_BYTES, 32) / sizeof(T),
                                      std::bit_floor(static_cast<uint64_t>(rows)));
  return lanes * sizeof(T) < MIN_VECTOR_BYTES ? 1 : lanes;
}

// to[j][i] = from[i][j] for a matrix of rows x cols. The last blocks overlap the ones before them.
template <typename T, int SIDE>
[[gnu::noinline]] void transpose_matrix(int64_t rows, int64_t cols, const T* from, int64_t from_row,
                                        T* to, int64_t to_row) {
  if (SIDE == 1 || rows < SIDE || cols < SIDE) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) to[j * to_row + i] = from[i * from_row + j];
    return;
  }
  if constexpr (SIDE > 1) {
    constexpr int64_t RUN = 64;  // columns; their transpose stays in L1 until its lines are full
    for (int64_t j = 0; j < cols; j += RUN) {
      const int64_t width = std::min(RUN, cols - j);
      for (int64_t row = 0; row < rows; row += SIDE) {
        const int64_t i = std::min(row, rows - SIDE), last = cols - SIDE;
        transpose_squares<T, SIDE>(width / SIDE, from + i * from_row + j, from_row,
                                   to + j * to_row + i, to_row);
        if (width % SIDE != 0)
          transpose_squares<T, SIDE>(1, from + i * from_row + last, from_row,
                                     to + last * to_row + i, to_row);
      }
    }
  }
}

// to[p][0:COLS] = from[p][0:COLS]; the rows of `to` are PITCH >= COLS apart. All rows but the last
// are copied in whole vectors. The next row overwrites their surplus elements, for which `to` has
// room.
template <typename T, int COLS, int PITCH>
[[gnu::noinline]] void copy_rows(const T* from, int64_t from_row, int64_t rows, T* to) {
  using In = Columns<T, COLS>;
  int64_t p = 0;
  if (In::PITCH <= from_row) {
    for (; p < rows - 1; ++p, from += from_row, to += PITCH)
      std::memcpy(to, from, In::PITCH * sizeof(T));
  }
  for (; p < rows; ++p, from += from_row, to += PITCH) std::memcpy(to, from, COLS * sizeof(T));
}

// ---- Panels of any size and stride ------------------------------------------------------------

// A panel to pack: `steps` steps of `lanes` elements each. In the packed panel, step p occupies the
// WIDTH elements from p * WIDTH on.
template <typename T>
struct Panel {
  const T* data;
  int64_t lane_stride, step_stride;
  int64_t lanes, steps;
};

// Copies the `lanes` elements of every step, in pieces of WIDTH, WIDTH / 2, ..., 1.
template <typename T, int WIDTH, int STEP = WIDTH>
void copy_lanes(const Panel<T>& from, T* to, int64_t first = 0) {
  for (; from.lanes - first >= WIDTH; first += WIDTH) {
    for (int64_t p = 0; p < from.steps; ++p)
      std::memcpy(to + p * STEP + first, from.data + p * from.step_stride + first,
                  WIDTH * sizeof(T));
  }
  if constexpr (WIDTH > 1) copy_lanes<T, WIDTH / 2, STEP>(from, to, first);
}

// Packs a panel. The elements past `lanes` are left as they are.
template <typename T, int WIDTH>
void pack_lanes(const Panel<T>& from, T* to) {
  if (from.lane_stride == 1) {
    if (from.lanes == WIDTH)
      return copy_rows<T, WIDTH, WIDTH>(from.data, from.step_stride, from.steps, to);
    return copy_lanes<T, WIDTH>(from, to);
  }
  if (from.step_stride == 1)
    return transpose_matrix<T, square_side<T>(WIDTH)>(from.lanes, from.steps, from.data,
                                                      from.lane_stride, to, WIDTH);
  for (int64_t i = 0; i < from.lanes; ++i)
    for (int64_t p = 0; p < from.steps; ++p)
      to[p * WIDTH + i] = from.data[i * from.lane_stride + p * from.step_stride];
}

// Packs a panel. The elements past `lanes` become zeros, for micro-kernels that compute with them.
template <typename T, int WIDTH>
void pack_panel(const Panel<T>& from, T* to) {
  if (from.lanes < WIDTH) std::fill_n(to, from.steps * WIDTH, T(0));
  pack_lanes<T, WIDTH>(from, to);
}

// ---- Tiles and panels of a known size ---------------------------------------------------------

// Packs `steps` steps of one tile or panel. Its rows (or columns) are `stride` apart in memory.
template <typename T>
using Pack = void (*)(const T* from, int64_t stride, int64_t steps, T* to);

template <typename T, int ROWS, int PITCH>
void pack_transposed(const T* from, int64_t from_row, int64_t cols, T* to) {
  transpose_matrix<T, square_side<T>(ROWS)>(ROWS, cols, from, from_row, to, PITCH);
}

// Lanes that are adjacent in memory are copied; otherwise the tile or panel is transposed.
template <typename T, int LANES, int PITCH, bool NEIGHBOURS>
constexpr Pack<T> pack_for() {
  if constexpr (NEIGHBOURS)
    return &copy_rows<T, LANES, PITCH>;
  else
    return &pack_transposed<T, LANES, PITCH>;
}
}  // namespace gemm_detail

}  // namespace needle::NEEDLE_ISA
