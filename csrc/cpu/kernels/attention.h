// attention.h: softmax(q·kᵀ·scale + mask)·v and its gradient, in memory linear in the length.
//
// Contract: q (B, H, T, d), k (B, H, S, d), v (B, H, S, e) and mask (B, H, T, S) have any strides;
// the mask is added to the scores. Results have a unit stride along their last axis and any other
// strides. `lse` (B, H, T, 2) is compact and receives the two terms of each row's logsumexp: its
// largest score, and the logarithm of the sum of exp(score - largest). They are kept apart because
// their sum would lose the second term if the scores are large. With `causal`, row t attends to
// columns up to t. A row whose scores are all -inf attends to nothing: its output is 0 and so are
// its gradients.
//
// Idea: the scores of a block of rows are computed, used and discarded. Backward recomputes them
// and obtains the probabilities from `lse` (FlashAttention, Dao et al. 2022, section 3 and appendix
// B: dS = P∘(dP - rowsum(dO∘O))). The scores of a block are stored transposed, with one row of the
// block in each lane: maxima, sums and exponentials are computed on whole vectors. Only q and dO,
// of which a block has few rows, are transposed; k, v and all results are used in place. The four
// kinds of products use register tiles on operands in L1. Columns that no row of a block attends to
// are skipped. The heads are distributed among the threads.
//
// Bound: the FMA rate. Measured in benchmarks/native/attention.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../view.h"
#include "attention/blocks.h"
#include "functions.h"

namespace needle::NEEDLE_ISA {

namespace attention_detail {

// ---- Forward ----------------------------------------------------------------------------------

// Stores the scores of the block, (seen, BLOCK), and finds the largest score of each row.
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

// Replaces the scores of the columns [begin, end) by exp(score - top) and adds them to `sum`.
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

// result (rows of the block, width) = or += P·(the rows [begin, end) of `rows`). `p` holds P
// transposed.
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

// Stores the two terms of the logsumexp of a row. A row that attends to nothing gets terms that
// make every probability 0.
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

// Computes the outputs of a block of rows. The rows of `out` are padded to whole vectors.
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

// Computes a single row, whose scores are dot products, without filling a block.
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

// Recomputes the terms of the logsumexps of a block, (count, 2).
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

// The operands of the backward pass of a block of rows, besides the head itself.
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

  // The forward pass computes a head of few rows one row at a time and so rounds their scores
  // differently. If the scores are large, the terms must match the scores that the backward pass
  // recomputes.
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

// Computes the probabilities and the gradients of the scores in the columns [begin, end); both have
// shape (end - begin, BLOCK).
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

// The rows [begin, end) of `result` = or += Pᵀ·(the rows of the block). `p` holds Pᵀ.
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

// Adds the gradients of a block of rows to d.dk and d.dv; they are overwritten unless `accumulate`.
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
  // The last block attends to every column that any block attends to. So it runs first, and writes
  // the gradients of these columns without accumulating.
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
