// attention.h: softmax(q·kᵀ·scale + mask)·v and its gradient, in memory linear in the length.
//
// Contract: q (B, H, T, d), k (B, H, S, d), v (B, H, S, e) and mask (B, H, T, S), added to the
// scores, have any strides; results any but a unit stride along their last axis; `lse` (B, H, T, 2)
// is compact and gets the two terms of each row's logsumexp, its largest score and the logarithm of
// the sum of exp(score - largest): their sum would lose the second term where scores are large.
// With `causal`, row t sees columns up to t. A row whose scores are all -inf, which sees nothing,
// gives 0 and has zero gradients.
//
// Idea: the scores of a block of rows are computed, used and thrown away; backward computes them
// again and finds the probabilities from `lse` (FlashAttention, Dao et al. 2022, section 3 and
// appendix B: dS = P∘(dP - rowsum(dO∘O))). The scores of a block are stored transposed, a row of
// the block a lane: maxima, sums and exponentials run over whole vectors, and only q and dO, of
// which a block has few rows, are ever transposed; k, v and all results stay where they stand. The
// four kinds of products are tiles in registers on operands in L1; columns that a block must not
// see are left out. Heads are shared among the threads.
//
// Bound: the FMA rate. Measured in benchmarks/native/attention.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "../view.h"
#include "functions.h"
#include "gemm.h"

namespace needle::NEEDLE_ISA {

namespace attention_detail {

using gemm_detail::load;
using gemm_detail::Matrix;
using gemm_detail::pack_panel;
using gemm_detail::Panel;
using gemm_detail::store;

// ---- Sizes and operands -----------------------------------------------------------------------

// Accumulators of a tile, a row of vectors and one element fill the registers, 32 or 16.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int TILE_ROWS = 8, TILE_VECTORS = 3;
#else
constexpr int TILE_ROWS = 4, TILE_VECTORS = 2;
#endif

// Columns whose probabilities, keys and values are in L1 at a time.
constexpr int64_t CHUNK = 64;

// So few rows are computed one by one.
constexpr int64_t MAX_SINGLE_ROWS = 3;

template <typename T>
using V = gemm_detail::Vector<T>;
template <typename T>
constexpr int64_t LANES = gemm_detail::Sizes<T>::LANES;

// Rows of scores that are computed together: the lanes of two vectors.
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

// `x` where it stands, or a copy if its rows are not whole vectors of consecutive elements; the
// padding of a copy is 0.
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

// Rows of whole vectors to compute `result` in: itself, or room in scratch.
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

// Calls f(height, i) for tiles of TILE_ROWS rows from `i` on, then for what is left in halves.
template <int ROWS = TILE_ROWS, typename F>
void for_each_tile(int64_t i, int64_t end, F&& f) {
  for (; end - i >= ROWS; i += ROWS) f(std::integral_constant<int, ROWS>{}, i);
  if constexpr (ROWS > 1) for_each_tile<ROWS / 2>(i, end, f);
}

// A column of a matrix whose elements are ROW apart; the next column is STEP further.
template <typename T, int64_t ROW, int64_t STEP>
struct BlockColumn {
  const T* data;

  [[gnu::always_inline]] T operator[](int i) const { return data[i * ROW]; }
  [[gnu::always_inline]] void advance() { data += STEP; }
};

// A column of Rows. An address holds a base and a step once or twice, so three rows share a base.
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

// sum += Σ over `steps` of a column of `a` times a row of `b`.
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
  // Four vectors are two tiles of two rather than one of three and one.
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

// Rows [first, first + count) of a head; lane l of a vector is row first + l.
template <typename T>
struct RowBlock {
  const Head<T>& head;
  int64_t first, count, seen;

  RowBlock(const Head<T>& x, int64_t first_row)
      : head(x),
        first(first_row),
        count(std::min(BLOCK<T>, x.rows - first_row)),
        seen(x.seen(first + count)) {}

  // The columns that the rows up to `row` of the block see, no more than `end`.
  int64_t seen_by(int64_t row, int64_t end) const {
    return head.causal ? std::min(end, first + row + 1) : end;
  }
  // The first row of the block that sees column j.
  int64_t first_row(int64_t j) const { return head.causal ? std::max<int64_t>(j - first, 0) : 0; }
};

// A block of rows transposed, (dim, BLOCK).
template <typename T>
const T* transpose_block(const RowBlock<T>& x, const Matrix<T>& from, int64_t dim, ScratchUse use) {
  T* to = scratch<T>(use, dim * BLOCK<T>);
  pack_panel<T, BLOCK<T>>({from.at(x.first, 0), from.row, from.col, x.count, dim}, to);
  return to;
}

// Calls f(vectors, lane, begin, end) for the parts of the columns [begin, end) that are seen from
// different vectors of the block: `vectors` of them from `lane` on.
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

// Calls finish(j, sum) for the columns j in [begin, end), sum[v] being row j of x·block in vectors.
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

// The part of the mask that a chunk of columns meets, transposed.
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

// The scores of column j in the vector from `lane` on, -inf where it must not be seen.
template <typename T>
[[gnu::always_inline]] inline V<T> score(const RowBlock<T>& x, const MaskChunk<T>& mask, int64_t j,
                                         int64_t lane, V<T> product) {
  V<T> s = product * x.head.scale;
  if (x.head.mask.data) s += load<V<T>>(mask.at(j, lane));
  const int64_t hidden = j - x.first - lane;  // so many lanes
  if (x.head.causal && hidden > 0) {
    const auto lanes = lane_numbers<T>();
    s = lanes < static_cast<std::decay_t<decltype(lanes[0])>>(hidden)
            ? V<T>{} - std::numeric_limits<T>::infinity()
            : s;
  }
  return s;
}

// exp(x) for x at most about 0: functions.h's polynomial, without a care for overflow, and 0 for
// results that are not normal numbers.
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

// The products of rows of a and b: lane l is that of rows first + min(l, count - 1).
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
  gemm_detail::transpose(dots);
  V<T> total = dots[0];
#pragma GCC unroll 16
  for (int64_t i = 1; i < LANES<T>; ++i) total += dots[i];
  return total;
}

// ---- Forward ----------------------------------------------------------------------------------

// Stores the scores of the block, (seen, BLOCK), and finds each row's largest.
template <typename T>
void score_block(const RowBlock<T>& x, T* scores, V<T> (&top)[2]) {
  const T* queries = transpose_block(x, x.head.q, x.head.dim, BLOCK_QUERIES);
  MaskChunk<T> mask;
  for (V<T>& t : top) t = V<T>{} - std::numeric_limits<T>::infinity();
  for (int64_t begin = 0; begin < x.seen; begin += CHUNK) {
    const int64_t end = std::min(begin + CHUNK, x.seen);
    mask.read(x, begin, end);
    for_each_span(x, begin, end, [&](auto vectors, int64_t lane, int64_t j0, int64_t j1) {
      V<T>* best = top + lane / LANES<T>;
      multiply_columns<vectors()>(x.head.k, x.head.dim, queries + lane, j0, j1,
                                  [&](int64_t j, const V<T>(&product)[vectors()])
                                      __attribute__((always_inline)) {
                                        for (int v = 0; v < vectors(); ++v) {
                                          const int64_t at = lane + v * LANES<T>;
                                          const V<T> s = score(x, mask, j, at, product[v]);
                                          best[v] = s > best[v] ? s : best[v];
                                          store(scores + j * BLOCK<T> + at, s);
                                        }
                                      });
    });
  }
}

// Scores of the columns [begin, end) become exp(score - top) and are added to `sum`.
template <typename T>
void exponentiate(const RowBlock<T>& x, int64_t begin, int64_t end, T* scores, const V<T> (&top)[2],
                  V<T> (&sum)[2]) {
  for_each_span(x, begin, end, [&](auto vectors, int64_t lane, int64_t j0, int64_t j1) {
    V<T> part[vectors()] = {};
    for (int64_t j = j0; j < j1; ++j) {
      T* row = scores + j * BLOCK<T>;
      for (int v = 0; v < vectors(); ++v) {
        const int64_t at = lane + v * LANES<T>;
        const V<T> p = exp_of_negative<T>(load<V<T>>(row + at) - top[at / LANES<T>]);
        store(row + at, p);
        part[v] += p;
      }
      if (lane > 0) store(row, V<T>{});
    }
    for (int v = 0; v < vectors(); ++v) sum[lane / LANES<T> + v] += part[v];
  });
}

// result (rows of the block, width) = or += P·rows of the columns [begin, end), P being transposed
// in `p`.
template <typename T>
void add_to_block(const RowBlock<T>& x, int64_t begin, int64_t end, const T* p,
                  const Rows<const T>& rows, const Rows<T>& result, int64_t width) {
  for_each_tile(0, x.count, [&](auto height, int64_t i) {
    const int64_t steps = x.seen_by(i + height() - 1, end) - begin;
    if (steps > 0) {
      add_product<height(), 1, BLOCK<T>>(steps, p + i, {rows[begin], rows.step},
                                         {result[x.first + i], result.step}, width, begin > 0);
    }
  });
}

// The terms of the logsumexp of a row: for one that sees nothing those that make every probability
// 0.
template <typename T>
void store_terms(T top, T sum, T log_sum, T* lse) {
  const bool blind = sum == 0;
  lse[0] = blind ? T(0) : top;
  lse[1] = blind ? std::numeric_limits<T>::infinity() : log_sum;
}

// out /= sum in every row; top and log(sum) go to lse.
template <typename T>
void normalize(const RowBlock<T>& x, const V<T> (&top)[2], const V<T> (&sum)[2], const Rows<T>& out,
               int64_t width, T* lse) {
  T largest[BLOCK<T>], total[BLOCK<T>], log_total[BLOCK<T>];
  std::memcpy(largest, top, sizeof top);
  std::memcpy(total, sum, sizeof sum);
  for (int64_t i = 0; i < BLOCK<T>; ++i) log_total[i] = f::log<T>(total[i]);
  for (int64_t i = 0; i < x.count; ++i) {
    const T factor = total[i] == 0 ? T(0) : 1 / total[i];
    store_terms(largest[i], total[i], log_total[i], lse + 2 * (x.first + i));
    T* row = out[x.first + i];
    for (int64_t e = 0; e < width; e += LANES<T>) store(row + e, load<V<T>>(row + e) * factor);
  }
}

// `out` in rows of whole vectors.
template <typename T>
void forward_block(const RowBlock<T>& x, const Rows<T>& out, T* lse) {
  const int64_t width = whole_vectors<T>(x.head.value_dim);
  if (x.seen == 0) clear(out, x.first, x.first + x.count, width);
  T* scores = scratch<T>(SCORES, x.seen * BLOCK<T>);
  V<T> top[2], sum[2] = {};
  score_block(x, scores, top);
  for (V<T>& t : top) t = t == -std::numeric_limits<T>::infinity() ? V<T>{} : t;
  for (int64_t begin = 0; begin < x.seen; begin += CHUNK) {
    const int64_t end = std::min(begin + CHUNK, x.seen);
    exponentiate(x, begin, end, scores, top, sum);
    add_to_block(x, begin, end, scores + begin * BLOCK<T>, x.head.v, out, width);
  }
  normalize(x, top, sum, out, width, lse);
}

template <typename T>
T largest_lane(V<T> v) {
  T best = v[0];
  for (int64_t i = 1; i < LANES<T>; ++i) best = v[i] > best ? v[i] : best;
  return best;
}

template <typename T>
T sum_of_lanes(V<T> v) {
  T sum = v[0];
  for (int64_t i = 1; i < LANES<T>; ++i) sum += v[i];
  return sum;
}

// One row alone, whose scores are dot products: no block is filled for it.
template <typename T>
void forward_row(const Head<T>& x, int64_t i, const T* query, T* out, T* lse) {
  constexpr T HIDDEN = -std::numeric_limits<T>::infinity();
  const int64_t seen = x.seen(i + 1), width = whole_vectors<T>(x.dim);
  T* scores = scratch<T>(SCORES, whole_vectors<T>(seen));
  V<T> best = V<T>{} + HIDDEN, part = {};
  for (int64_t j = 0; j < seen; j += LANES<T>) {
    V<T> s = x.scale * dot_rows(x.k, {query, 0}, j, seen - j, width);
    for (int64_t l = 0; l < LANES<T> && (x.mask.data || j + LANES<T> > seen); ++l)
      s[l] = j + l >= seen ? HIDDEN : x.mask.data ? s[l] + *x.mask.at(i, j + l) : s[l];
    best = s > best ? s : best;
    store(scores + j, s);
  }
  const T top = largest_lane<T>(best), shift = top == HIDDEN ? T(0) : top;
  for (int64_t j = 0; j < seen; j += LANES<T>) {
    const V<T> p = exp_of_negative<T>(load<V<T>>(scores + j) - shift);
    store(scores + j, p);
    part += p;
  }
  gemm_detail::multiply_vector<T>(
      {x.value_dim, seen, {x.v.data, 1, x.v.step}, scores, out, 1, nullptr, 0}, 1);
  const T sum = sum_of_lanes<T>(part), factor = sum == 0 ? T(0) : 1 / sum;
  for (int64_t e = 0; e < x.value_dim; ++e) out[e] *= factor;
  store_terms(shift, sum, std::log(sum), lse + 2 * i);
}

template <typename T>
void forward(const Head<T>& x, const Rows<T>& out, T* lse) {
  if (x.rows <= MAX_SINGLE_ROWS) {
    const Rows<const T> q = whole_rows(x.q, x.rows, x.dim, QUERIES);
    for (int64_t i = 0; i < x.rows; ++i) forward_row(x, i, q[i], out[i], lse);
    return;
  }
  const Rows<T> sums = whole_result(out, x.rows, x.value_dim, OUTPUTS);
  for (int64_t first = 0; first < x.rows; first += BLOCK<T>)
    forward_block(RowBlock<T>(x, first), sums, lse);
  copy_result(sums, out, x.rows, x.value_dim);
}

// ---- Backward ---------------------------------------------------------------------------------

template <typename T>
struct HeadGradients {
  Rows<const T> q, g, out;
  const T* lse;
  Rows<T> dq, dk, dv;
};

// The terms of the logsumexps of a block, (count, 2), found again.
template <typename T>
const T* terms_again(const RowBlock<T>& x) {
  T* scores = scratch<T>(SCORES, x.seen * BLOCK<T> + 2 * MAX_SINGLE_ROWS);
  T* lse = scores + x.seen * BLOCK<T>;
  V<T> top[2], sum[2] = {};
  score_block(x, scores, top);
  for (V<T>& t : top) t = t == -std::numeric_limits<T>::infinity() ? V<T>{} : t;
  exponentiate(x, 0, x.seen, scores, top, sum);
  for (int64_t i = 0; i < x.count; ++i)
    store_terms(top[0][i], sum[0][i], f::log<T>(sum[0][i]), lse + 2 * i);
  return lse;
}

// What a block of rows needs besides the head.
template <typename T>
struct BlockGradients {
  const T *queries, *gradients;  // transposed
  V<T> top[2], log_sum[2], dot[2];

  BlockGradients(const RowBlock<T>& x, const HeadGradients<T>& d) {
    const int64_t width = whole_vectors<T>(x.head.value_dim);
    queries = transpose_block(x, x.head.q, x.head.dim, BLOCK_QUERIES);
    gradients = transpose_block(x, {d.g.data, d.g.step, 1}, x.head.value_dim, BLOCK_GRADIENTS);
    const T* lse = d.lse + 2 * x.first;
    read_terms(x, rounds_otherwise(x, lse) ? terms_again(x) : lse);
    dot[0] = dot_rows(d.g, d.out, x.first, x.count, width);
    dot[1] = V<T>{};
    if (x.count > LANES<T>)
      dot[1] = dot_rows(d.g, d.out, x.first + LANES<T>, x.count - LANES<T>, width);
  }

  // The forward pass computes few rows one by one and rounds their scores otherwise. Where these
  // are large, the terms must be those of the scores that are found here.
  static bool rounds_otherwise(const RowBlock<T>& x, const T* lse) {
    constexpr T LARGE = 32;
    bool large = false;
    for (int64_t i = 0; i < x.count; ++i) large |= !(std::fabs(lse[2 * i]) < LARGE);
    return large && x.head.rows <= MAX_SINGLE_ROWS;
  }

  void read_terms(const RowBlock<T>& x, const T* lse) {
    T tops[BLOCK<T>] = {}, logs[BLOCK<T>];
    std::fill_n(logs, BLOCK<T>, std::numeric_limits<T>::infinity());
    for (int64_t i = 0; i < x.count; ++i) {
      tops[i] = lse[2 * i];
      logs[i] = lse[2 * i + 1];
    }
    std::memcpy(top, tops, sizeof top);
    std::memcpy(log_sum, logs, sizeof log_sum);
  }
};

// Probabilities and gradients of the scores in the columns [begin, end), (end - begin, BLOCK) each.
template <typename T>
void score_gradients(const RowBlock<T>& x, const BlockGradients<T>& d, int64_t begin, int64_t end,
                     T* p, T* ds) {
  MaskChunk<T> mask;
  mask.read(x, begin, end);
  for_each_span(x, begin, end, [&](auto vectors, int64_t lane, int64_t j0, int64_t j1) {
    multiply_columns<vectors()>(
        x.head.k, x.head.dim, d.queries + lane, j0, j1,
        [&](int64_t j, const V<T>(&product)[vectors()]) __attribute__((always_inline)) {
          T* row = p + (j - begin) * BLOCK<T>;
          for (int v = 0; v < vectors(); ++v) {
            const int64_t at = lane + v * LANES<T>;
            const V<T> s = score(x, mask, j, at, product[v]);
            const int64_t half = at / LANES<T>;
            store(row + at, exp_of_negative<T>((s - d.top[half]) - d.log_sum[half]));
          }
          if (lane > 0) store(row, V<T>{});
        });
    multiply_columns<vectors()>(
        x.head.v, x.head.value_dim, d.gradients + lane, j0, j1,
        [&](int64_t j, const V<T>(&product)[vectors()]) __attribute__((always_inline)) {
          const int64_t row = (j - begin) * BLOCK<T>;
          for (int v = 0; v < vectors(); ++v) {
            const int64_t at = lane + v * LANES<T>;
            store(ds + row + at,
                  load<V<T>>(p + row + at) * x.head.scale * (product[v] - d.dot[at / LANES<T>]));
          }
          if (lane > 0) store(ds + row, V<T>{});
        });
  });
}

// Rows of `result` for the columns [begin, end) = or += Pᵀ·rows of the block, Pᵀ being in `p`.
template <typename T>
void add_to_columns(const RowBlock<T>& x, int64_t begin, int64_t end, const T* p,
                    const Rows<const T>& rows, const Rows<T>& result, int64_t width,
                    bool accumulate) {
  for_each_tile(begin, end, [&](auto height, int64_t j) {
    const int64_t i = x.first_row(j);
    add_product<height(), BLOCK<T>, 1>(x.count - i, p + (j - begin) * BLOCK<T> + i,
                                       {rows[x.first + i], rows.step}, {result[j], result.step},
                                       width, accumulate);
  });
}

// d.dk and d.dv are overwritten, or added to with `accumulate`.
template <typename T>
void backward_block(const RowBlock<T>& x, const HeadGradients<T>& d, bool accumulate) {
  const int64_t width = whole_vectors<T>(x.head.dim);
  const int64_t value_width = whole_vectors<T>(x.head.value_dim);
  const BlockGradients<T> block(x, d);
  if (x.seen == 0) clear(d.dq, x.first, x.first + x.count, width);
  T *p = scratch<T>(SCORES, 2 * CHUNK * BLOCK<T>), *ds = p + CHUNK * BLOCK<T>;
  for (int64_t begin = 0; begin < x.seen; begin += CHUNK) {
    const int64_t end = std::min(begin + CHUNK, x.seen);
    score_gradients(x, block, begin, end, p, ds);
    add_to_columns(x, begin, end, p, d.g, d.dv, value_width, accumulate);
    add_to_columns(x, begin, end, ds, d.q, d.dk, width, accumulate);
    add_to_block(x, begin, end, ds, x.head.k, d.dq, width);
  }
}

template <typename T>
void backward(const Head<T>& x, const HeadGradients<T>& results) {
  HeadGradients<T> d = results;
  d.dq = whole_result(d.dq, x.rows, x.dim, QUERY_GRADIENTS);
  d.dk = whole_result(d.dk, x.columns, x.dim, KEY_GRADIENTS);
  d.dv = whole_result(d.dv, x.columns, x.value_dim, VALUE_GRADIENTS);
  // The last block sees all columns that any sees, so it is the first to write their gradients.
  const int64_t seen = x.rows > 0 ? x.seen(x.rows) : 0;
  clear(d.dk, seen, x.columns, whole_vectors<T>(x.dim));
  clear(d.dv, seen, x.columns, whole_vectors<T>(x.value_dim));
  const int64_t last = (x.rows - 1) / BLOCK<T> * BLOCK<T>;
  for (int64_t first = last; first >= 0 && x.rows > 0; first -= BLOCK<T>)
    backward_block(RowBlock<T>(x, first), d, first < last);
  copy_result(d.dq, results.dq, x.rows, x.dim);
  copy_result(d.dk, results.dk, x.columns, x.dim);
  copy_result(d.dv, results.dv, x.columns, x.value_dim);
}

}  // namespace attention_detail

inline void attention(const View& q, const View& k, const View& v, const View* mask,
                      const View& out, const View& lse, double scale, bool causal) {
  using namespace attention_detail;
  NEEDLE_DISPATCH_FLOAT(q.dtype, {
    const int64_t heads = q.shape[1], rows = q.shape[2];
    const int64_t cost = rows * k.shape[2] * (q.shape[3] + v.shape[3]) / 8;
    parallel_range(q.shape[0] * heads, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        forward(make_head<T>(q, k, v, mask, i, scale, causal),
                result_head<T>(out, i / heads, i % heads),
                reinterpret_cast<T*>(lse.data) + 2 * i * rows);
      }
    });
  })
}

inline void attention_grad(const View& g, const View& q, const View& k, const View& v,
                           const View* mask, const View& out, const View& lse, const View& dq,
                           const View& dk, const View& dv, double scale, bool causal) {
  using namespace attention_detail;
  NEEDLE_DISPATCH_FLOAT(q.dtype, {
    const int64_t heads = q.shape[1], rows = q.shape[2], dim = q.shape[3], value_dim = v.shape[3];
    const int64_t cost = rows * k.shape[2] * (dim + value_dim) / 4;
    parallel_range(q.shape[0] * heads, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t batch = i / heads, head = i % heads;
        const HeadGradients<T> gradients{
            whole_rows(head_of<T>(q, batch, head), rows, dim, QUERIES),
            whole_rows(head_of<T>(g, batch, head), rows, value_dim, GRADIENTS),
            whole_rows(head_of<T>(out, batch, head), rows, value_dim, OUTPUTS),
            reinterpret_cast<const T*>(lse.data) + 2 * i * rows,
            result_head<T>(dq, batch, head),
            result_head<T>(dk, batch, head),
            result_head<T>(dv, batch, head)};
        backward(make_head<T>(q, k, v, mask, i, scale, causal), gradients);
      }
    });
  })
}

}  // namespace needle::NEEDLE_ISA
