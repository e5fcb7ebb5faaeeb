// attention.cuh: softmax(q·kᵀ·scale + mask)·v and its gradient, in memory linear in the length.
//
// Contract: the same as that of csrc/cpu/kernels/attention.h. q (B, H, T, d), k (B, H, S, d),
// v (B, H, S, e), mask (B, H, T, S) and the results may have any strides; lse (B, H, T, 2) and
// dots (B, H, T) are contiguous. Operands of 16 bits are accumulated in float, and mask, lse and
// dots are then float arrays. With `causal`, row t attends to the columns up to t. A row that
// attends to no column gives 0, and the two terms of its logsumexp are 0 and infinity.
//
// Idea: a thread block owns a tile of rows and iterates over the columns tile by tile. It computes
// the softmax in a single pass: whenever the maximum score of a row grows, the partial results of
// the row are rescaled (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018;
// Dao et al., "FlashAttention", 2022, algorithm 1; Dao, "FlashAttention-2", 2023, section 3.1). Two
// numbers per row are stored for backward: the maximum score and the logarithm of the sum of
// exponentials. Their sum would lose the second term to rounding where scores are large. Backward
// recomputes the probabilities from these two. It computes dq in blocks of rows, and dk and dv in
// blocks of columns, so that no two thread blocks add to the same element. A result that is wider
// than a tile is computed in slices, and each slice recomputes the scores. A block streams two
// operands through shared memory: one is copied asynchronously while the other is multiplied.
//
// Bound: arithmetic.
#pragma once

#include "reduce.cuh"
#include "tiles.cuh"

namespace needle {

template <class T, bool MASKED>
struct AttentionInput {
  int64_t heads, rows, columns, dim, value_dim, causal;
  double scale;
  Array<const T, 4> q, k, v;
  Array<const sum_of<T>, 4> mask;  // used only if MASKED
};

// The part of the result that a thread block computes: the tile of a head whose first row is
// `first` and whose first column is `slice`.
struct Place {
  int64_t head, batch, first, slice;
};

// With `descending`, the first blocks take the last rows. Under a causal mask these rows attend to
// the most columns, and the longest work should start first so that the grid has no long tail.
template <class Tiles>
__device__ Place place_of_block(int64_t heads, int64_t rows, int64_t width, bool descending) {
  const int64_t tiles = (rows + Tiles::ROWS - 1) / Tiles::ROWS;
  const bool one = Tiles::WHOLE || width <= Tiles::WIDTH;
  const int64_t slices = one ? 1 : (width + Tiles::WIDTH - 1) / Tiles::WIDTH;
  const int64_t block = blockIdx.x, tile = block / slices % tiles, head = block / slices / tiles;
  return {head % heads, head / heads, (descending ? tiles - 1 - tile : tile) * Tiles::ROWS,
          one ? 0 : block % slices * Tiles::WIDTH};
}

template <class T>
__device__ Matrix<T> head_of(const Array<const T, 4>& x, const Place& at, int64_t rows,
                             int64_t cols) {
  return {x.data + at.batch * x.stride[0] + at.head * x.stride[1], x.stride[2], x.stride[3], rows,
          cols};
}

// Writes the sums of a thread, each multiplied by the factor of its row.
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

// 2^x. Results below the smallest normal float are flushed to 0.
__device__ inline double power_of_two(double x) { return ::exp2(x); }
__device__ inline float power_of_two(float x) {
#ifdef NEEDLE_EMULATOR
  return ::exp2f(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}
// e^x, for x at most about 0. The factor log2(e) is applied here and not to the scores beforehand:
// the largest scores would overflow, and differences of large scores would lose digits.
template <class S>
__device__ S exponential(S x) {
  return power_of_two(x * static_cast<S>(1.4426950408889634));
}

// Turns a tile of q·kᵀ into scores: scales it, adds the mask, and writes -inf at masked positions.
// The tile starts at query i0 and key j0. Its rows are queries, or keys if TURNED.
template <class Tiles, bool TURNED, class T, bool MASKED, class S>
__device__ void finish_scores(S (&scores)[Tiles::MINE][Tiles::SCORES],
                              const AttentionInput<T, MASKED>& x, const Matrix<S>& mask, int64_t i0,
                              int64_t j0) {
  constexpr int QUERIES = TURNED ? Tiles::COLS : Tiles::ROWS;
  constexpr int KEYS = TURNED ? Tiles::ROWS : Tiles::COLS;
  const int queries = at_most(x.rows - i0, QUERIES), keys = at_most(x.columns - j0, KEYS);
  // Query i of the tile attends to the keys j of the tile with j - i <= ahead.
  const int ahead = x.causal ? at_most(i0 - j0, KEYS) : KEYS;
  const S scale = static_cast<S>(x.scale);
#pragma unroll
  for (int r = 0; r < Tiles::MINE; ++r) {
#pragma unroll
    for (int c = 0; c < Tiles::SCORES; ++c) scores[r][c] *= scale;
  }
  if (!MASKED && queries == QUERIES && keys == KEYS && ahead >= KEYS - 1) return;
#pragma unroll
  for (int r = 0; r < Tiles::MINE; ++r) {
#pragma unroll
    for (int c = 0; c < Tiles::SCORES; ++c) {
      const int i = TURNED ? Tiles::col(c) : Tiles::row(r);
      const int j = TURNED ? Tiles::row(r) : Tiles::col(c);
      if (i >= queries || j >= keys || j - i > ahead) {
        scores[r][c] = lowest<S>();
      } else if constexpr (MASKED) {
        scores[r][c] += *mask.from(i0 + i, j0 + j).data;
      }
    }
  }
}

template <class S>
struct Larger {  // ignores NaN: the row's sum of exponentials is NaN anyway
  __device__ S operator()(S a, S b) const { return b > a ? b : a; }
};

// ---- forward ----------------------------------------------------------------------------------

template <class Tiles, class T, bool MASKED, class S>
__device__ void attention(const AttentionInput<T, MASKED>& x, const Array<T, 4>& out, S* lse) {
  constexpr int R = Tiles::MINE, C = Tiles::SCORES;
  __shared__ typename Tiles::Shared shared;
  const Place at = place_of_block<Tiles>(x.heads, x.rows, x.value_dim, true);
  const Matrix<T> k = head_of(x.k, at, x.columns, x.dim),
                  v = head_of(x.v, at, x.columns, x.value_dim);
  const Matrix<S> mask = head_of(x.mask, at, x.rows, x.columns);
  const auto q = Tiles::keep(head_of(x.q, at, x.rows, x.dim).from(at.first, 0), shared);
  typename Tiles::Right keys(shared, 0), values(shared, 1);
  S top[R], sum[R] = {}, total[R][Tiles::WIDE] = {};
  for (S& t : top) t = lowest<S>();
  const int64_t end = at.first + Tiles::ROWS, seen = x.causal && end < x.columns ? end : x.columns;
  keys.fetch(k);
  for (int64_t j = 0; j < seen; j += Tiles::COLS) {
    S scores[R][C] = {};
    Tiles::arrive();
    values.fetch(v.from(j, 0));
    Tiles::multiply(scores, q, keys, shared);
    finish_scores<Tiles, false>(scores, x, mask, at.first, j);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      S best = top[r];
#pragma unroll
      for (int c = 0; c < C; ++c) best = Larger<S>{}(best, scores[r][c]);
      best = Tiles::over_row(best, Larger<S>{});
      const S shift = best == lowest<S>() ? S(0) : best, keep = exponential(top[r] - shift);
      top[r] = best, sum[r] *= keep;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        scores[r][c] = exponential(scores[r][c] - shift);
        sum[r] += scores[r][c];
      }
#pragma unroll
      for (int c = 0; c < Tiles::WIDE; ++c) total[r][c] *= keep;
    }
    Tiles::arrive();
    if (j + Tiles::COLS < seen) keys.fetch(k.from(j + Tiles::COLS, 0));
    Tiles::add_held(total, Tiles::hold(scores, shared), values, at.slice, shared);
  }
  S factor[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    sum[r] = Tiles::over_row(sum[r], Sum{});
    const bool blind = sum[r] == S(0);
    factor[r] = blind ? S(0) : S(1) / sum[r];
    const int64_t i = at.first + Tiles::row(r);
    if (i < x.rows && at.slice == 0 && threadIdx.x % Tiles::LANES == 0) {
      S* const terms = lse + 2 * ((at.batch * x.heads + at.head) * x.rows + i);
      terms[0] = blind ? S(0) : top[r], terms[1] = blind ? highest<S>() : f::log(sum[r]);
    }
  }
  store<Tiles>(total, factor, out, at, x.rows, x.value_dim);
}

// ---- backward ---------------------------------------------------------------------------------

// Let P = exp(scores - top - log_sum), where top and log_sum are the two terms of lse, and
// dP = dO·vᵀ. Then dS = P∘(dP - rowsum(dO∘O))·scale, dq = dS·k, dk = dSᵀ·q and dv = Pᵀ·dO
// (Dao et al., 2022, appendix B).

// Computes dq. Writes rowsum(dO∘O) to `dots`, which attention_key_grads reads.
template <class Tiles, class T, bool MASKED, class S>
__device__ void attention_query_grad(const AttentionInput<T, MASKED>& x, const Array<const T, 4>& g,
                                     const Array<const T, 4>& out, const S* lse, S* dots,
                                     const Array<T, 4>& dq) {
  constexpr int R = Tiles::MINE, C = Tiles::SCORES;
  __shared__ typename Tiles::Shared shared;
  const Place at = place_of_block<Tiles>(x.heads, x.rows, x.dim, true);
  const Matrix<T> k = head_of(x.k, at, x.columns, x.dim),
                  v = head_of(x.v, at, x.columns, x.value_dim),
                  dy = head_of(g, at, x.rows, x.value_dim).from(at.first, 0),
                  y = head_of(out, at, x.rows, x.value_dim).from(at.first, 0);
  const Matrix<S> mask = head_of(x.mask, at, x.rows, x.columns);
  const int64_t start = (at.batch * x.heads + at.head) * x.rows + at.first;
  S top[R] = {}, log_sum[R] = {}, dot[R] = {}, total[R][Tiles::WIDE] = {}, scale[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int i = Tiles::row(r);
    scale[r] = static_cast<S>(x.scale);
    if (i < dy.rows) {
      top[r] = lse[2 * (start + i)], log_sum[r] = lse[2 * (start + i) + 1];
      for (int64_t e = threadIdx.x % Tiles::LANES; e < dy.cols; e += Tiles::LANES) {
        dot[r] += widen(dy.data[i * dy.row + e * dy.col]) * widen(y.data[i * y.row + e * y.col]);
      }
    }
    dot[r] = Tiles::over_row(dot[r], Sum{});
    if (i < dy.rows && at.slice == 0 && threadIdx.x % Tiles::LANES == 0) dots[start + i] = dot[r];
  }
  const auto q = Tiles::keep(head_of(x.q, at, x.rows, x.dim).from(at.first, 0), shared);
  const auto grad = Tiles::keep(dy, shared);
  typename Tiles::Right keys(shared, 0), values(shared, 1);
  const int64_t end = at.first + Tiles::ROWS, seen = x.causal && end < x.columns ? end : x.columns;
  values.fetch(v);
  for (int64_t j = 0; j < seen; j += Tiles::COLS) {
    S scores[R][C] = {}, dp[R][C] = {};
    Tiles::arrive();
    keys.fetch(k.from(j, 0));
    Tiles::multiply(dp, grad, values, shared);
    Tiles::arrive();
    if (j + Tiles::COLS < seen) values.fetch(v.from(j + Tiles::COLS, 0));
    Tiles::multiply(scores, q, keys, shared);
    finish_scores<Tiles, false>(scores, x, mask, at.first, j);
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
        scores[r][c] = exponential(scores[r][c] - top[r] - log_sum[r]) * (dp[r][c] - dot[r]);
      }
    }
    Tiles::add_held(total, Tiles::hold(scores, shared), keys, at.slice, shared);
  }
  store<Tiles>(total, scale, dq, at, x.rows, x.dim);
}

// Computes dk and dv. Tiles are transposed here: their rows are keys, the columns of the scores.
template <class Tiles, class T, bool MASKED, class S>
__device__ void attention_key_grads(const AttentionInput<T, MASKED>& x, const Array<const T, 4>& g,
                                    const S* lse, const S* dots, const Array<T, 4>& dk,
                                    const Array<T, 4>& dv) {
  constexpr int R = Tiles::MINE, C = Tiles::SCORES;
  __shared__ typename Tiles::Shared shared;
  __shared__ S top[Tiles::COLS], log_sum[Tiles::COLS], dot[Tiles::COLS];  // per query
  const int64_t width = x.dim > x.value_dim ? x.dim : x.value_dim;
  const Place at = place_of_block<Tiles>(x.heads, x.columns, width, false);
  const Matrix<T> q = head_of(x.q, at, x.rows, x.dim), dy = head_of(g, at, x.rows, x.value_dim);
  const Matrix<S> mask = head_of(x.mask, at, x.rows, x.columns);
  const auto k = Tiles::keep(head_of(x.k, at, x.columns, x.dim).from(at.first, 0), shared);
  const auto v = Tiles::keep(head_of(x.v, at, x.columns, x.value_dim).from(at.first, 0), shared);
  typename Tiles::Right queries(shared, 0), grads(shared, 1);
  const int64_t start = (at.batch * x.heads + at.head) * x.rows;
  S keys[R][Tiles::WIDE] = {}, values[R][Tiles::WIDE] = {}, scale[R], ones[R];
  for (S& s : scale) s = static_cast<S>(x.scale);
  for (S& one : ones) one = S(1);
  const int64_t first = x.causal ? at.first / Tiles::COLS * Tiles::COLS : 0;
  queries.fetch(q.from(first, 0));
  for (int64_t i = first; i < x.rows; i += Tiles::COLS) {
    S scores[R][C] = {}, dp[R][C] = {};
    Tiles::arrive();
    grads.fetch(dy.from(i, 0));
    if (threadIdx.x < Tiles::COLS) {
      const int64_t row = i + threadIdx.x;
      top[threadIdx.x] = row < x.rows ? lse[2 * (start + row)] : S(0);
      log_sum[threadIdx.x] = row < x.rows ? lse[2 * (start + row) + 1] : S(0);
      dot[threadIdx.x] = row < x.rows ? dots[start + row] : S(0);
    }
    Tiles::multiply(scores, k, queries, shared);
    finish_scores<Tiles, true>(scores, x, mask, i, at.first);
    Tiles::arrive();
    Tiles::multiply(dp, v, grads, shared);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int query = Tiles::col(c);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        scores[r][c] = exponential(scores[r][c] - top[query] - log_sum[query]);
        dp[r][c] = scores[r][c] * (dp[r][c] - dot[query]);
      }
    }
    Tiles::add_held(keys, Tiles::hold(dp, shared), queries, at.slice, shared);
    Tiles::arrive();
    if (i + Tiles::COLS < x.rows) queries.fetch(q.from(i + Tiles::COLS, 0));
    Tiles::add_held(values, Tiles::hold(scores, shared), grads, at.slice, shared);
  }
  store<Tiles>(keys, scale, dk, at, x.columns, x.dim);
  store<Tiles>(values, ones, dv, at, x.columns, x.value_dim);
}

}  // namespace needle
