// attention.cuh: softmax(q·kᵀ·scale + mask)·v and its gradient, in memory linear in the length.
//
// Contract: that of csrc/cpu/kernels/attention.h. q (B, H, T, d), k (B, H, S, d), v (B, H, S, e)
// and mask (B, H, T, S) have any strides, results too; lse and dots (B, H, T) are compact. Numbers
// of 16 bits are added in float, in which mask, lse and dots are then. With
// `causal` row t sees columns up to t. A row that sees nothing gives 0 and has an lse of infinity.
//
// A block takes a tile of rows and goes over the columns, tile by tile. The softmax is found in one
// reading: whenever a row's largest score grows, what has been added is scaled (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention",
// 2022, algorithm 1; Dao, "FlashAttention-2", 2023, section 3.1). One number a row is kept, the
// logarithm of its sum of exponentials, from which the gradient finds the probabilities again: dq
// in blocks of rows, dk and dv in blocks of columns, so that no two blocks add to one number.
// Results wider than a tile are made in slices, each of which computes the scores again.
//
// Bound: arithmetic.
#pragma once

#include "reduce.cuh"
#include "tiles.cuh"

namespace needle {

template <class T>
struct AttentionInput {
  int64_t heads, rows, columns, dim, value_dim, causal;
  double scale;
  Array<const T, 4> q, k, v;
  Array<const sum_of<T>, 4> mask;  // its data may be null
};

// What a block computes: rows from `first` on of a head, and columns of its results from `slice`
// on.
struct Place {
  int64_t head, batch, first, slice;
};

template <class Tiles>
__device__ Place place_of_block(int64_t heads, int64_t rows, int64_t width) {
  const int64_t tiles = (rows + Tiles::ROWS - 1) / Tiles::ROWS, block = blockIdx.x;
  const int64_t slices = width <= Tiles::WIDTH ? 1 : (width + Tiles::WIDTH - 1) / Tiles::WIDTH;
  const int64_t head = block / slices / tiles;
  return {head % heads, head / heads, block / slices % tiles * Tiles::ROWS,
          block % slices * Tiles::WIDTH};
}

template <class T>
__device__ Matrix<T> head_of(const Array<const T, 4>& x, const Place& at, int64_t rows,
                             int64_t cols) {
  return {x.data + at.batch * x.stride[0] + at.head * x.stride[1], x.stride[2], x.stride[3], rows,
          cols};
}

// Writes a thread's sums, each times the factor of its row.
template <class Tiles, class T, class S>
__device__ void store(const S (&sums)[Tiles::MINE][Tiles::WIDE], const S (&factor)[Tiles::MINE],
                      const Array<T, 4>& to, const Place& at, int64_t rows, int64_t cols) {
  T* const data = to.data + at.batch * to.stride[0] + at.head * to.stride[1];
#pragma unroll
  for (int r = 0; r < Tiles::MINE; ++r) {
#pragma unroll
    for (int c = 0; c < Tiles::WIDE; ++c) {
      const int64_t i = at.first + Tiles::row(r), j = at.slice + Tiles::wide(c);
      if (i < rows && j < cols) {
        data[i * to.stride[2] + j * to.stride[3]] = narrow<T>(sums[r][c] * factor[r]);
      }
    }
  }
}

// The score of row i and column j; -inf where it must not be seen.
template <class T, class S>
__device__ S score(const AttentionInput<T>& x, const Matrix<S>& mask, int64_t i, int64_t j,
                   S product) {
  if (i >= x.rows || j >= x.columns || (x.causal && j > i)) return lowest<S>();
  const S scaled = product * static_cast<S>(x.scale);
  return mask.data == nullptr ? scaled : scaled + mask.data[i * mask.row + j * mask.col];
}

template <class S>
struct Larger {  // NaN shows in the sum
  __device__ S operator()(S a, S b) const { return b > a ? b : a; }
};

// ---- forward ----------------------------------------------------------------------------------

template <class Tiles, class T, class S>
__device__ void attention(const AttentionInput<T>& x, const Array<T, 4>& out, S* lse) {
  constexpr int R = Tiles::MINE, C = Tiles::SCORES;
  __shared__ typename Tiles::Shared shared;
  const Place at = place_of_block<Tiles>(x.heads, x.rows, x.value_dim);
  const Matrix<T> q = head_of(x.q, at, x.rows, x.dim).from(at.first, 0),
                  k = head_of(x.k, at, x.columns, x.dim),
                  v = head_of(x.v, at, x.columns, x.value_dim).from(0, at.slice);
  const Matrix<S> mask = head_of(x.mask, at, x.rows, x.columns);
  S top[R], sum[R] = {}, total[R][Tiles::WIDE] = {};
  for (S& t : top) t = lowest<S>();
  const int64_t end = at.first + Tiles::ROWS, seen = x.causal && end < x.columns ? end : x.columns;
  for (int64_t j = 0; j < seen; j += Tiles::COLS) {
    S scores[R][C] = {};
    Tiles::multiply(scores, q, k.from(j, 0), shared);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      S best = top[r];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        scores[r][c] = score(x, mask, at.first + Tiles::row(r), j + Tiles::col(c), scores[r][c]);
        best = Larger<S>{}(best, scores[r][c]);
      }
      best = Tiles::over_row(best, Larger<S>{});
      const S shift = best == lowest<S>() ? S(0) : best, keep = f::exp(top[r] - shift);
      top[r] = best, sum[r] *= keep;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        scores[r][c] = f::exp(scores[r][c] - shift);
        sum[r] += scores[r][c];
      }
#pragma unroll
      for (int c = 0; c < Tiles::WIDE; ++c) total[r][c] *= keep;
    }
    Tiles::add_held(total, Tiles::hold(scores, shared), v.from(j, 0), shared);
  }
  S factor[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    sum[r] = Tiles::over_row(sum[r], Sum{});
    const bool blind = sum[r] == S(0);
    factor[r] = blind ? S(0) : S(1) / sum[r];
    const int64_t i = at.first + Tiles::row(r);
    if (i < x.rows && at.slice == 0 && threadIdx.x % Tiles::LANES == 0) {
      lse[(at.batch * x.heads + at.head) * x.rows + i] =
          blind ? highest<S>() : top[r] + f::log(sum[r]);
    }
  }
  store<Tiles>(total, factor, out, at, x.rows, x.value_dim);
}

// ---- backward ---------------------------------------------------------------------------------

// With P = exp(scores - lse) and dP = dO·vᵀ: dS = P∘(dP - rowsum(dO∘O))·scale, dq = dS·k,
// dk = dSᵀ·q, dv = Pᵀ·dO (Dao et al., 2022, appendix B).

// dq; the rows' sums of dO∘O go to `dots`.
template <class Tiles, class T, class S>
__device__ void attention_query_grad(const AttentionInput<T>& x, const Array<const T, 4>& g,
                                     const Array<const T, 4>& out, const S* lse, S* dots,
                                     const Array<T, 4>& dq) {
  constexpr int R = Tiles::MINE, C = Tiles::SCORES;
  __shared__ typename Tiles::Shared shared;
  const Place at = place_of_block<Tiles>(x.heads, x.rows, x.dim);
  const Matrix<T> q = head_of(x.q, at, x.rows, x.dim).from(at.first, 0),
                  k = head_of(x.k, at, x.columns, x.dim),
                  v = head_of(x.v, at, x.columns, x.value_dim),
                  dy = head_of(g, at, x.rows, x.value_dim).from(at.first, 0),
                  y = head_of(out, at, x.rows, x.value_dim).from(at.first, 0);
  const Matrix<S> mask = head_of(x.mask, at, x.rows, x.columns);
  const int64_t start = (at.batch * x.heads + at.head) * x.rows + at.first;
  S log_sum[R] = {}, dot[R] = {}, total[R][Tiles::WIDE] = {}, ones[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int i = Tiles::row(r);
    ones[r] = S(1);
    if (i < dy.rows) {
      log_sum[r] = lse[start + i];
      for (int64_t e = threadIdx.x % Tiles::LANES; e < dy.cols; e += Tiles::LANES) {
        dot[r] += widen(dy.data[i * dy.row + e * dy.col]) * widen(y.data[i * y.row + e * y.col]);
      }
    }
    dot[r] = Tiles::over_row(dot[r], Sum{});
    if (i < dy.rows && at.slice == 0 && threadIdx.x % Tiles::LANES == 0) dots[start + i] = dot[r];
  }
  const int64_t end = at.first + Tiles::ROWS, seen = x.causal && end < x.columns ? end : x.columns;
  for (int64_t j = 0; j < seen; j += Tiles::COLS) {
    S scores[R][C] = {}, dp[R][C] = {};
    Tiles::multiply(scores, q, k.from(j, 0), shared);
    Tiles::multiply(dp, dy, v.from(j, 0), shared);
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const S s = score(x, mask, at.first + Tiles::row(r), j + Tiles::col(c), scores[r][c]);
        scores[r][c] = f::exp(s - log_sum[r]) * (dp[r][c] - dot[r]) * static_cast<S>(x.scale);
      }
    }
    Tiles::add_held(total, Tiles::hold(scores, shared), k.from(j, at.slice), shared);
  }
  store<Tiles>(total, ones, dq, at, x.rows, x.dim);
}

// dk and dv: here a tile's rows are the columns of the scores.
template <class Tiles, class T, class S>
__device__ void attention_key_grads(const AttentionInput<T>& x, const Array<const T, 4>& g,
                                    const S* lse, const S* dots, const Array<T, 4>& dk,
                                    const Array<T, 4>& dv) {
  constexpr int R = Tiles::MINE, C = Tiles::SCORES;
  __shared__ typename Tiles::Shared shared;
  const Place at =
      place_of_block<Tiles>(x.heads, x.columns, x.dim > x.value_dim ? x.dim : x.value_dim);
  const Matrix<T> q = head_of(x.q, at, x.rows, x.dim),
                  k = head_of(x.k, at, x.columns, x.dim).from(at.first, 0),
                  v = head_of(x.v, at, x.columns, x.value_dim).from(at.first, 0),
                  dy = head_of(g, at, x.rows, x.value_dim);
  const Matrix<S> mask = head_of(x.mask, at, x.rows, x.columns);
  const int64_t start = (at.batch * x.heads + at.head) * x.rows;
  S keys[R][Tiles::WIDE] = {}, values[R][Tiles::WIDE] = {}, ones[R];
  for (S& one : ones) one = S(1);
  for (int64_t i = x.causal ? at.first / Tiles::COLS * Tiles::COLS : 0; i < x.rows;
       i += Tiles::COLS) {
    S scores[R][C] = {}, dp[R][C] = {};
    Tiles::multiply(scores, k, q.from(i, 0), shared);
    Tiles::multiply(dp, v, dy.from(i, 0), shared);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int64_t row = i + Tiles::col(c);
      const S log_sum = row < x.rows ? lse[start + row] : S(0);
      const S dot = row < x.rows ? dots[start + row] : S(0);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const S s = score(x, mask, row, at.first + Tiles::row(r), scores[r][c]);
        scores[r][c] = f::exp(s - log_sum);
        dp[r][c] = scores[r][c] * (dp[r][c] - dot) * static_cast<S>(x.scale);
      }
    }
    Tiles::add_held(values, Tiles::hold(scores, shared), dy.from(i, at.slice), shared);
    Tiles::add_held(keys, Tiles::hold(dp, shared), q.from(i, at.slice), shared);
  }
  store<Tiles>(keys, ones, dk, at, x.columns, x.dim);
  store<Tiles>(values, ones, dv, at, x.columns, x.value_dim);
}

}  // namespace needle
