// attention.h: softmax(q·kᵀ·scale + mask)·v and its gradient, in memory linear in the length.
//
// Contract: q (B, H, T, d), k (B, H, S, d), v (B, H, S, e) and mask (B, H, T, S), added to the
// scores, have any strides; results any but a unit stride along their last axis; `lse` (B, H, T) is
// compact and gets the logarithm of each row's sum of exponentials. With `causal`, row t sees
// columns up to t. A row that sees nothing gives 0.
//
// Idea: the scores of a block of rows are computed, used and thrown away; backward computes them
// again and finds the probabilities from `lse` (FlashAttention, Dao et al. 2022, section 3 and
// appendix B: dS = P∘(dP - rowsum(dO∘O))). Heads are shared among the threads.
// Bound: the matrix product's.
#pragma once

#include <limits>

#include "functions.h"
#include "gemm.h"
#include "rows.h"

namespace needle::NEEDLE_ISA {

namespace attention_detail {

using gemm_detail::Matrix;
using gemm_detail::Product;
using gemm_detail::scratch;

constexpr int64_t BLOCK_ROWS = 64;

// One head of a (B, H, rows, columns) array.
template <typename T>
Matrix<T> head_of(const View& x, int64_t batch, int64_t head) {
  return {reinterpret_cast<const T*>(x.data) + batch * x.strides[0] + head * x.strides[1],
          x.strides[2], x.strides[3]};
}

template <typename T>
Matrix<T> transposed(const Matrix<T>& x) {
  return {x.data, x.col, x.row};
}

template <typename T>
Matrix<T> rows_from(const Matrix<T>& x, int64_t first) {
  return {x.at(first, 0), x.row, x.col};
}

template <typename T>
struct Head {
  int64_t rows, columns, dim, value_dim;  // T, S, d, e
  Matrix<T> q, k, v, mask;                // mask.data may be null
  T scale;
  bool causal;

  int64_t seen(int64_t end_row) const { return causal ? std::min(end_row, columns) : columns; }
};

// C (rows, columns) = or += A·B, on this thread.
template <typename T>
void product(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t c_row,
             bool accumulate) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (int64_t i = 0; i < m && !accumulate; ++i) std::fill_n(c + i * c_row, n, T(0));
    return;
  }
  gemm_detail::multiply(Product<T>{m, n, k, a, b, c, c_row, nullptr, accumulate});
}

// Scores of rows [first, first + count) over `seen` columns, -inf where they must not look.
template <typename T>
void score_block(const Head<T>& x, int64_t first, int64_t count, int64_t seen, T* scores) {
  product(count, seen, x.dim, rows_from(x.q, first), transposed(x.k), scores, seen, false);
  for (int64_t i = 0; i < count; ++i) {
    T* row = scores + i * seen;
    for (int64_t j = 0; j < seen; ++j) row[j] *= x.scale;
    if (x.mask.data) {
      for (int64_t j = 0; j < seen; ++j) row[j] += *x.mask.at(first + i, j);
    }
    if (x.causal && first + i + 1 < seen) {
      std::fill(row + first + i + 1, row + seen, -std::numeric_limits<T>::infinity());
    }
  }
}

// One head of a result.
template <typename T>
struct Result {
  T* data;
  int64_t row;

  T* at(int64_t i) const { return data + i * row; }
  void clear(int64_t rows, int64_t columns) const {
    for (int64_t i = 0; i < rows; ++i) std::fill_n(at(i), columns, T(0));
  }
};

template <typename T>
Result<T> result_head(const View& x, int64_t batch, int64_t head) {
  return {const_cast<T*>(head_of<T>(x, batch, head).data), x.strides[2]};
}

template <typename T>
void forward(const Head<T>& x, const Result<T>& out, T* lse) {
  for (int64_t first = 0; first < x.rows; first += BLOCK_ROWS) {
    const int64_t count = std::min(BLOCK_ROWS, x.rows - first), seen = x.seen(first + count);
    T* scores = scratch<T>(gemm_detail::SCORES, count * seen);
    score_block(x, first, count, seen, scores);
    for (int64_t i = 0; i < count; ++i) {
      T* row = scores + i * seen;
      const T top = seen ? row_max(row, seen) : -std::numeric_limits<T>::infinity();
      const bool blind = top == -std::numeric_limits<T>::infinity();
      for (int64_t j = 0; j < seen; ++j) row[j] = blind ? T(0) : f::exp<T>(row[j] - top);
      const T sum = blind ? T(1) : reduce_floats<ReduceOp::sum, T>(row, seen);
      lse[first + i] = blind ? std::numeric_limits<T>::infinity() : top + std::log(sum);
      for (int64_t j = 0; j < seen; ++j) row[j] /= sum;
    }
    product(count, x.value_dim, seen, {scores, seen, 1}, x.v, out.at(first), out.row, false);
  }
}

template <typename T>
struct HeadGradients {
  Matrix<T> g, out;
  const T* lse;
  Result<T> dq, dk, dv;
};

template <typename T>
void backward(const Head<T>& x, const HeadGradients<T>& d) {
  d.dk.clear(x.columns, x.dim);
  d.dv.clear(x.columns, x.value_dim);
  for (int64_t first = 0; first < x.rows; first += BLOCK_ROWS) {
    const int64_t count = std::min(BLOCK_ROWS, x.rows - first), seen = x.seen(first + count);
    T* p = scratch<T>(gemm_detail::SCORES, count * seen);
    T* ds = scratch<T>(gemm_detail::SCORE_GRADIENTS, count * seen);
    score_block(x, first, count, seen, p);
    for (int64_t i = 0; i < count; ++i) {
      T* row = p + i * seen;
      for (int64_t j = 0; j < seen; ++j) row[j] = f::exp<T>(row[j] - d.lse[first + i]);
    }
    const Matrix<T> g = rows_from(d.g, first), probabilities{p, seen, 1}, scores{ds, seen, 1};
    product(seen, x.value_dim, count, transposed(probabilities), g, d.dv.data, d.dv.row, true);
    product(count, seen, x.value_dim, g, transposed(x.v), ds, seen, false);
    for (int64_t i = 0; i < count; ++i) {
      T dot = 0;
      for (int64_t e = 0; e < x.value_dim; ++e) dot += *g.at(i, e) * *d.out.at(first + i, e);
      T *row = ds + i * seen, *probability = p + i * seen;
      for (int64_t j = 0; j < seen; ++j) row[j] = probability[j] * (row[j] - dot) * x.scale;
    }
    product(count, x.dim, seen, scores, x.k, d.dq.at(first), d.dq.row, false);
    product(seen, x.dim, count, transposed(scores), rows_from(x.q, first), d.dk.data, d.dk.row,
            true);
  }
}

template <typename T>
Head<T> make_head(const View& q, const View& k, const View& v, const View* mask, int64_t index,
                  double scale, bool causal) {
  const int64_t batch = index / q.shape[1], head = index % q.shape[1];
  return {q.shape[2],
          k.shape[2],
          q.shape[3],
          v.shape[3],
          head_of<T>(q, batch, head),
          head_of<T>(k, batch, head),
          head_of<T>(v, batch, head),
          mask ? head_of<T>(*mask, batch, head) : Matrix<T>{nullptr, 0, 0},
          static_cast<T>(scale),
          causal};
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
                reinterpret_cast<T*>(lse.data) + i * rows);
      }
    });
  })
}

inline void attention_grad(const View& g, const View& q, const View& k, const View& v,
                           const View* mask, const View& out, const View& lse, const View& dq,
                           const View& dk, const View& dv, double scale, bool causal) {
  using namespace attention_detail;
  NEEDLE_DISPATCH_FLOAT(q.dtype, {
    const int64_t heads = q.shape[1], rows = q.shape[2];
    const int64_t cost = rows * k.shape[2] * (q.shape[3] + v.shape[3]) / 4;
    parallel_range(q.shape[0] * heads, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t batch = i / heads, head = i % heads;
        const HeadGradients<T> gradients{head_of<T>(g, batch, head),
                                         head_of<T>(out, batch, head),
                                         reinterpret_cast<const T*>(lse.data) + i * rows,
                                         result_head<T>(dq, batch, head),
                                         result_head<T>(dk, batch, head),
                                         result_head<T>(dv, batch, head)};
        backward(make_head<T>(q, k, v, mask, i, scale, causal), gradients);
      }
    });
  })
}

}  // namespace needle::NEEDLE_ISA
