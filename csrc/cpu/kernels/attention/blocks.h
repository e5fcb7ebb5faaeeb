// blocks.h: the operands of attention, the register tiles of its products, and blocks of rows of
// scores.
//
// Contract: the scores of a block are stored transposed, (columns, BLOCK): lane l of a vector is
// row `first + l`. The rows of an operand are whole vectors, either in place or in a zero-padded
// copy.
//
// Bound: the FMA rate, on operands in L1.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "../../view.h"
#include "../gemm/matrix_vector.h"
#include "../gemm/pack.h"
#include "../gemm/scratch.h"
#include "../vectors.h"

namespace needle::NEEDLE_ISA {

namespace attention_detail {

using gemm_detail::Matrix;
using gemm_detail::pack_panel;
using gemm_detail::Panel;
using vectors::load;
using vectors::store;

// ---- Sizes and operands -----------------------------------------------------------------------

// The accumulators of a tile, one row of vectors and one broadcast element fill the 32 or 16
// registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int TILE_ROWS = 8, TILE_VECTORS = 3;
#else
constexpr int TILE_ROWS = 4, TILE_VECTORS = 2;
#endif

// The number of columns whose probabilities, keys and values are in L1 at a time.
constexpr int64_t CHUNK = 64;

// A head with at most this many rows is computed one row at a time.
constexpr int64_t MAX_SINGLE_ROWS = 3;

template <typename T>
using V = gemm_detail::Vector<T, REGISTER_BYTES>;
template <typename T>
constexpr int64_t LANES = REGISTER_BYTES / sizeof(T);

// The number of rows of scores that are computed together: the lanes of two vectors.
template <typename T>
constexpr int64_t BLOCK = 2 * LANES<T>;

enum ScratchUse {
  QUERIES,
  KEYS,
  VALUES,
  GRADIENTS,
  OUTPUTS,
  QUERY_GRADIENTS,
  KEY_GRADIENTS,
  VALUE_GRADIENTS,
  BLOCK_QUERIES,
  BLOCK_GRADIENTS,
  SCORES,
  SCRATCH_USES
};

template <typename T>
T* scratch(ScratchUse use, int64_t count) {
  thread_local gemm_detail::Scratch buffers[SCRATCH_USES];
  return buffers[use].reserve<T>(count);
}

template <typename T>
int64_t whole_vectors(int64_t columns) {
  return gemm_detail::ceil_div(columns, LANES<T>) * LANES<T>;
}

// Rows of consecutive elements.
template <typename T>
struct Rows {
  T* data;
  int64_t step;

  T* operator[](int64_t i) const { return data + i * step; }
};

// Returns `x` in place if its rows are whole vectors of consecutive elements, else a zero-padded
// copy.
template <typename T>
Rows<const T> whole_rows(const Matrix<T>& x, int64_t rows, int64_t columns, ScratchUse use) {
  const int64_t width = whole_vectors<T>(columns);
  if (x.col == 1 && width == columns) return {x.data, x.row};
  T* copy = scratch<T>(use, rows * width);
  for (int64_t i = 0; i < rows; ++i) {
    T* row = copy + i * width;
    for (int64_t j = 0; j < columns; ++j) row[j] = *x.at(i, j);
    std::fill(row + columns, row + width, T(0));
  }
  return {copy, width};
}

// Returns rows of whole vectors in which to compute `result`: `result` itself, or scratch memory.
template <typename T>
Rows<T> whole_result(const Rows<T>& result, int64_t rows, int64_t columns, ScratchUse use) {
  const int64_t width = whole_vectors<T>(columns);
  return width == columns ? result : Rows<T>{scratch<T>(use, rows * width), width};
}

template <typename T>
void copy_result(const Rows<T>& from, const Rows<T>& result, int64_t rows, int64_t columns) {
  if (from.data == result.data) return;
  for (int64_t i = 0; i < rows; ++i) std::copy_n(from[i], columns, result[i]);
}

template <typename T>
void clear(const Rows<T>& x, int64_t begin, int64_t end, int64_t width) {
  for (int64_t i = begin; i < end; ++i) std::fill_n(x[i], width, T(0));
}

// One head of a (B, H, rows, columns) array.
template <typename T>
Matrix<T> head_of(const View& x, int64_t batch, int64_t head) {
  return {reinterpret_cast<const T*>(x.data) + batch * x.strides[0] + head * x.strides[1],
          x.strides[2], x.strides[3]};
}

template <typename T>
Rows<T> result_head(const View& x, int64_t batch, int64_t head) {
  return {const_cast<T*>(head_of<T>(x, batch, head).data), x.strides[2]};
}

template <typename T>
struct Head {
  int64_t rows, columns, dim, value_dim;  // T, S, d, e
  Matrix<T> q, mask;                      // mask.data may be null
  Rows<const T> k, v;
  T scale;
  bool causal;

  int64_t seen(int64_t end_row) const { return causal ? std::min(end_row, columns) : columns; }
};

template <typename T>
Head<T> make_head(const View& q, const View& k, const View& v, const View* mask, int64_t index,
                  double scale, bool causal) {
  const int64_t batch = index / q.shape[1], head = index % q.shape[1];
  return {q.shape[2],
          k.shape[2],
          q.shape[3],
          v.shape[3],
          head_of<T>(q, batch, head),
          mask ? head_of<T>(*mask, batch, head) : Matrix<T>{nullptr, 0, 0},
          whole_rows(head_of<T>(k, batch, head), k.shape[2], k.shape[3], KEYS),
          whole_rows(head_of<T>(v, batch, head), v.shape[2], v.shape[3], VALUES),
          static_cast<T>(scale),
          causal};
}

// ---- Tiles ------------------------------------------------------------------------------------

// Calls f(height, i) for tiles of TILE_ROWS rows from `i` on, then for the remaining rows in tiles
// of half the height, and so on.
template <int ROWS = TILE_ROWS, typename F>
void for_each_tile(int64_t i, int64_t end, F&& f) {
  for (; end - i >= ROWS; i += ROWS) f(std::integral_constant<int, ROWS>{}, i);
  if constexpr (ROWS > 1) for_each_tile<ROWS / 2>(i, end, f);
}

// A column of a matrix. Its elements are ROW apart; the next column starts STEP elements further.
template <typename T, int64_t ROW, int64_t STEP>
struct BlockColumn {
  const T* data;

  [[gnu::always_inline]] T operator[](int i) const { return data[i * ROW]; }
  [[gnu::always_inline]] void advance() { data += STEP; }
};

// A column of Rows. An address can hold a base plus the step once or twice, so that three rows
// share a base.
template <typename T, int ROWS>
struct RowsColumn {
  static constexpr int BASES = (ROWS + 2) / 3;
  const T* base[BASES];
  int64_t step;

  RowsColumn(const Rows<const T>& x, int64_t first) : step(x.step) {
    for (int i = 0; i < BASES; ++i) base[i] = x[first + 3 * i];
  }
  [[gnu::always_inline]] T operator[](int i) const { return base[i / 3][i % 3 * step]; }
  [[gnu::always_inline]] void advance() {
#pragma GCC unroll 8
    for (const T*& b : base) ++b;
  }
};

// sum += Σ over `steps` of (a column of `a`) times (a row of `b`).
template <int ROWS, int VECTORS, typename T, typename Column>
[[gnu::always_inline]] inline void add_products(V<T> (&sum)[ROWS][VECTORS], int64_t steps, Column a,
                                                const T* b, int64_t b_step) {
  for (; steps > 0; --steps, b += b_step, a.advance()) {
    V<T> row[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) row[v] = load<V<T>>(b + v * LANES<T>);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const T element = a[i];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) sum[i][v] += element * row[v];
    }
  }
}

// c (ROWS, width) = or += A·b, where element (i, p) of A is a[i * A_ROW + p * A_STEP].
template <int ROWS, int64_t A_ROW, int64_t A_STEP, int VECTORS = TILE_VECTORS, typename T>
void add_product(int64_t steps, const T* a, Rows<const T> b, Rows<T> c, int64_t width,
                 bool accumulate) {
  constexpr int64_t WIDTH = VECTORS * LANES<T>;
  // Four vectors are computed as two tiles of two, rather than as one of three and one of one.
  for (; width >= WIDTH && !(VECTORS == 3 && width == 4 * LANES<T>); width -= WIDTH) {
    V<T> sum[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v)
        sum[i][v] = accumulate ? load<V<T>>(c[i] + v * LANES<T>) : V<T>{};
    }
    add_products(sum, steps, BlockColumn<T, A_ROW, A_STEP>{a}, b.data, b.step);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) store(c[i] + v * LANES<T>, sum[i][v]);
    }
    b.data += WIDTH;
    c.data += WIDTH;
  }
  if constexpr (VECTORS > 1)
    add_product<ROWS, A_ROW, A_STEP, VECTORS - 1>(steps, a, b, c, width, accumulate);
}

// ---- Blocks of rows ---------------------------------------------------------------------------

// The rows [first, first + count) of a head; lane l of a vector is row first + l.
template <typename T>
struct RowBlock {
  const Head<T>& head;
  int64_t first, count, seen;

  RowBlock(const Head<T>& x, int64_t first_row)
      : head(x),
        first(first_row),
        count(std::min(BLOCK<T>, x.rows - first_row)),
        seen(x.seen(first + count)) {}

  // The number of columns that the rows up to `row` of the block attend to, at most `end`.
  int64_t seen_by(int64_t row, int64_t end) const {
    return head.causal ? std::min(end, first + row + 1) : end;
  }
  // The first row of the block that attends to column j.
  int64_t first_row(int64_t j) const { return head.causal ? std::max<int64_t>(j - first, 0) : 0; }
};

// Returns the block of rows transposed, (dim, BLOCK).
template <typename T>
const T* transpose_block(const RowBlock<T>& x, const Matrix<T>& from, int64_t dim, ScratchUse use) {
  T* to = scratch<T>(use, dim * BLOCK<T>);
  pack_panel<T, BLOCK<T>>({from.at(x.first, 0), from.row, from.col, x.count, dim}, to);
  return to;
}

// Splits the columns [begin, end) into the parts that different vectors of the block attend to, and
// calls f(vectors, lane, begin, end) for each part: `vectors` vectors, starting at `lane`, attend
// to it.
template <typename T, typename F>
void for_each_span(const RowBlock<T>& x, int64_t begin, int64_t end, F&& f) {
  constexpr std::integral_constant<int, 1> ONE;
  constexpr std::integral_constant<int, 2> TWO;
  const int64_t turn = x.head.causal ? std::clamp(x.first + LANES<T>, begin, end) : end;
  if (x.count > LANES<T>)
    f(TWO, int64_t{0}, begin, turn);
  else
    f(ONE, int64_t{0}, begin, turn);
  if (turn < end) f(ONE, LANES<T>, turn, end);
}

// Calls finish(j, sum) for the columns j in [begin, end). sum[v] is vector v of row j of x·block.
template <int VECTORS, typename T, typename F>
void multiply_columns(const Rows<const T>& x, int64_t dim, const T* block, int64_t begin,
                      int64_t end, F&& finish) {
  for_each_tile(begin, end, [&](auto rows, int64_t j) {
    constexpr int ROWS = rows();
    V<T> sum[ROWS][VECTORS] = {};
    add_products(sum, dim, RowsColumn<T, ROWS>(x, j), block, BLOCK<T>);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) finish(j + i, sum[i]);
  });
}

// The part of the mask for one chunk of columns, transposed.
template <typename T>
struct MaskChunk {
  alignas(64) T data[CHUNK * BLOCK<T>];
  int64_t begin = 0;

  void read(const RowBlock<T>& x, int64_t first_column, int64_t end) {
    const Matrix<T>& mask = x.head.mask;
    begin = first_column;
    if (mask.data == nullptr) return;
    const T* from = mask.at(x.first, begin);
    if (mask.row == 0) {
      for (int64_t j = 0; j < end - begin; ++j)
        std::fill_n(data + j * BLOCK<T>, BLOCK<T>, from[j * mask.col]);
    } else {
      pack_panel<T, BLOCK<T>>({from, mask.row, mask.col, x.count, end - begin}, data);
    }
  }
  const T* at(int64_t j, int64_t lane) const { return data + (j - begin) * BLOCK<T> + lane; }
};

template <typename T>
auto lane_numbers() {
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  V<Int> lanes;
  for (int64_t i = 0; i < LANES<T>; ++i) lanes[i] = static_cast<Int>(i);
  return lanes;
}

// The scores of column j for the rows in the vector that starts at `lane`; -inf for rows that must
// not attend to it.
template <typename T>
[[gnu::always_inline]] inline V<T> score(const RowBlock<T>& x, const MaskChunk<T>& mask, int64_t j,
                                         int64_t lane, V<T> product) {
  V<T> s = product * x.head.scale;
  if (x.head.mask.data) s += load<V<T>>(mask.at(j, lane));
  const int64_t hidden = j - x.first - lane;  // the number of masked lanes
  if (x.head.causal && hidden > 0) {
    const auto lanes = lane_numbers<T>();
    s = lanes < static_cast<std::decay_t<decltype(lanes[0])>>(hidden)
            ? V<T>{} - std::numeric_limits<T>::infinity()
            : s;
  }
  return s;
}

// exp(x) for x at most about 0, with the polynomial of functions.h. Overflow is not handled, and
// results below the smallest normal number are 0.
template <typename T>
[[gnu::always_inline]] inline V<T> exp_of_negative(V<T> x) {
  if constexpr (std::is_same_v<T, float>) {
    const V<T> shifted = x * 1.44269504088896341f + 12583039.0f;  // 1.5 · 2^23 + 127
    const V<T> n = shifted - 12583039.0f;
    const V<T> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    V<T> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const V<T> power = (V<T>)((V<int32_t>)shifted << 23);
    return x < -87.0f ? V<T>{} : p * power;
  } else {
    for (int64_t i = 0; i < LANES<T>; ++i) x[i] = std::exp(x[i]);
    return x;
  }
}

// Dot products of the rows of a and b: lane l is the one of rows first + min(l, count - 1).
template <typename T>
V<T> dot_rows(const Rows<const T>& a, const Rows<const T>& b, int64_t first, int64_t count,
              int64_t width) {
  V<T> dots[LANES<T>];
#pragma GCC unroll 16
  for (int64_t i = 0; i < LANES<T>; ++i) dots[i] = V<T>{};
  for (int64_t j = 0; j < width; j += LANES<T>) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < LANES<T>; ++i) {
      const int64_t row = first + std::min(i, count - 1);
      dots[i] += load<V<T>>(a[row] + j) * load<V<T>>(b[row] + j);
    }
  }
  vectors::transpose(dots);
  V<T> total = dots[0];
#pragma GCC unroll 16
  for (int64_t i = 1; i < LANES<T>; ++i) total += dots[i];
  return total;
}

}  // namespace attention_detail

}  // namespace needle::NEEDLE_ISA
