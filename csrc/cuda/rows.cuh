// rows.cuh: softmax, cross-entropy and layer norm per row of a matrix, with their gradients. The
// gradients of the weights of layer norm are in columns.cuh.
//
// Contract: matrices (rows, cols) and vectors are contiguous and of one floating type. A sum is
// within 32·u·Σ|x| of the exact sum of its terms, whatever its length (sums.cuh).
//
// Idea: a thread block processes a row. Its threads stride over the columns, then combine their
// partial results in a fixed order.
//
// Bound: memory bandwidth; after the first pass over a row, later passes read it from the caches.
#pragma once

#include "reduce.cuh"

namespace needle {

// out[j] = f(j) for the columns of a row. f must not read `out`.
template <class T, class F>
__device__ void map_row(F f, int64_t cols, T* out) {
  const int64_t step = blockDim.x;
  int64_t j = threadIdx.x;
  for (; j + (LOADS - 1) * step < cols; j += LOADS * step) {
    T y[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; ++i) y[i] = f(j + i * step);
#pragma unroll
    for (int i = 0; i < LOADS; ++i) out[j + i * step] = y[i];
  }
  for (; j < cols; j += step) out[j] = f(j);
}

// Sums K terms per column over the columns of a row; terms(j) returns the terms of column j. All
// threads get the sums.
template <int K, class T, class Terms>
__device__ Pack<T, K> row_sums(int64_t cols, Terms terms) {
  RunningSum<T> mine[K];
  const int64_t step = blockDim.x;
  int64_t j = threadIdx.x;
  for (; j + (LOADS - 1) * step < cols; j += LOADS * step) {
    Pack<T, K> x[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; ++i) x[i] = terms(j + i * step);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      T some = x[0].item[k];
#pragma unroll
      for (int i = 1; i < LOADS; ++i) some += x[i].item[k];
      mine[k].add(some);
    }
  }
  for (; j < cols; j += step) {
    const Pack<T, K> x = terms(j);
#pragma unroll
    for (int k = 0; k < K; ++k) mine[k].add(x.item[k]);
  }
  Pack<T, K> all;
#pragma unroll
  for (int k = 0; k < K; ++k) all.item[k] = over_block(mine[k].value(), T(0), Sum{});
  return all;
}

// The maximum of a row and the sum of exp(x - maximum). The sum is NaN if the maximum is infinite.
template <class T>
struct Exponentials {
  T top, sum;
};

// The running maximum of a thread's numbers and the sum of exp(x - base). The base is raised and
// the sum rescaled when a larger number arrives (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018), but only if it exceeds the base by more than 1. Numbers that
// rise slowly would otherwise rescale the sum each time. With this threshold each rescaling shrinks
// the earlier rounding errors by at least a factor of e, so that they do not accumulate.
template <class T>
struct RunningExponentials {
  T base = lowest<T>(), top = lowest<T>();
  RunningSum<T> sum;

  template <int N>
  __device__ void add(const T (&x)[N]) {
    T largest = x[0];
#pragma unroll
    for (int i = 1; i < N; ++i) largest = f::maximum(largest, x[i]);
    top = f::maximum(top, largest);
    if (largest > base + T(1)) sum.scale(f::exp(base - largest)), base = largest;
    T some = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) some += exponential(x[i], base);
    sum.add(some);
  }
  __device__ Exponentials<T> over_threads() const {
    const T all = over_block(top, lowest<T>(), Max{});
    const T mine = sum.value() * exponential(base, all);
    return {all, over_block(mine, T(0), Sum{}) + (all - all)};
  }

  // exp(x - y), and 1 where x == y: the difference of two equal infinities would be NaN.
  static __device__ T exponential(T x, T y) { return x == y ? T(1) : f::exp(x - y); }
};

template <class T>
__device__ Exponentials<T> row_exponentials(const T* x, int64_t cols) {
  RunningExponentials<T> mine;
  const int64_t step = blockDim.x;
  int64_t j = threadIdx.x;
  for (; j + (LOADS - 1) * step < cols; j += LOADS * step) {
    T some[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; ++i) some[i] = x[j + i * step];
    mine.add(some);
  }
  for (; j < cols; j += step) {
    const T one[1] = {x[j]};
    mine.add(one);
  }
  return mine.over_threads();
}

template <bool LOGARITHM, class T>
__device__ void softmax(int64_t rows, int64_t cols, const T* x, T* out) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = x + row * cols;
    const Exponentials<T> e = row_exponentials(from, cols);
    const T shift = LOGARITHM ? f::log(e.sum) : T(1) / e.sum;
    const auto value = [&](int64_t j) {
      return LOGARITHM ? from[j] - e.top - shift : f::exp(from[j] - e.top) * shift;
    };
    map_row(value, cols, out + row * cols);
  }
}

// ---- cross-entropy ----------------------------------------------------------------------------

// Writes to `bad` the position of the first label that is neither a class nor the ignored label.
__device__ inline void check_labels(int64_t rows, int64_t cols, const int64_t* labels,
                                    int64_t ignored, unsigned long long* bad) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < rows; i += step) {
    if (labels[i] != ignored && (labels[i] < 0 || labels[i] >= cols)) {
      atomicMin(bad, static_cast<unsigned long long>(i));
    }
  }
}

// loss = logsumexp - (1 - smoothing)·logit[label] - smoothing·mean(logits), and 0 in ignored rows.
// The two terms of the logsumexp, e.top and log(e.sum), are written to lse (rows, 2).
template <class T>
__device__ void cross_entropy(int64_t rows, int64_t cols, const T* logits, const int64_t* labels,
                              T* losses, T* lse, int64_t ignored, double smoothing) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* x = logits + row * cols;
    const int64_t label = labels[row];
    const bool kept = label != ignored && label >= 0 && label < cols;  // see also check_labels
    const Exponentials<T> e = row_exponentials(x, cols);
    T shifted = 0;
    if (smoothing > 0) {
      const auto terms = [&](int64_t j) { return Pack<T, 1>{x[j] - e.top}; };
      shifted = row_sums<1, T>(cols, terms).item[0];
    }
    if (threadIdx.x == 0) {
      const T log_sum = f::log(e.sum);
      const T chosen = kept ? x[label] - e.top : T(0);
      T expected = smoothing < 1 ? T(1 - smoothing) * chosen : T(0);
      if (smoothing > 0) expected += T(smoothing) * shifted / T(cols);
      losses[row] = kept ? log_sum - expected : T(0);
      lse[2 * row] = kept ? e.top : T(0);
      lse[2 * row + 1] = kept ? log_sum : T(0);
    }
  }
}

// out = scale[row]·(softmax - target), where the target is (1 - smoothing)·one_hot(label) +
// smoothing / cols.
template <class T>
__device__ void cross_entropy_grad(int64_t rows, int64_t cols, const T* logits,
                                   const int64_t* labels, const T* scale, const T* lse, T* out,
                                   int64_t ignored, double smoothing) {
  const T spread = static_cast<T>(smoothing / static_cast<double>(cols));
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t label = labels[row];
    const bool kept = label != ignored;
    const T* x = logits + row * cols;
    const T top = lse[2 * row], log_sum = lse[2 * row + 1], factor = kept ? scale[row] : T(0);
    const auto value = [&](int64_t j) {
      T difference = f::exp(x[j] - top - log_sum) - spread;
      if (j == label) difference -= T(1 - smoothing);
      return kept ? factor * difference : T(0);
    };
    map_row(value, cols, out + row * cols);
  }
}

// ---- layer norm -------------------------------------------------------------------------------

template <class T>
__device__ void layer_norm(int64_t rows, int64_t cols, const T* x, const T* weight, const T* bias,
                           double eps, T* out, T* means, T* rstds) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = x + row * cols;
    const auto itself = [&](int64_t j) { return Pack<T, 1>{from[j]}; };
    const T mean = row_sums<1, T>(cols, itself).item[0] / T(cols);
    const auto square = [&](int64_t j) { return Pack<T, 1>{f::square(from[j] - mean)}; };
    const T var = row_sums<1, T>(cols, square).item[0] / T(cols), rstd = f::rsqrt(var + T(eps));
    const auto value = [&](int64_t j) { return (from[j] - mean) * rstd * weight[j] + bias[j]; };
    map_row(value, cols, out + row * cols);
    if (threadIdx.x == 0) means[row] = mean, rstds[row] = rstd;
  }
}

// Let h = (x - mean)·rstd and p = g·w. Then dx = rstd·(p - mean(p) - h·mean(p·h)).
template <class T>
__device__ void layer_norm_grad(int64_t rows, int64_t cols, const T* g, const T* x, const T* weight,
                                const T* means, const T* rstds, T* dx) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = x + row * cols;
    const T* grad = g + row * cols;
    const T mean = means[row], rstd = rstds[row];
    const Pack<T, 2> sums = row_sums<2, T>(cols, [&](int64_t j) {
      const T p = grad[j] * weight[j];
      return Pack<T, 2>{p, p * (from[j] - mean) * rstd};
    });
    const T sum = sums.item[0] / T(cols), product = sums.item[1] / T(cols);
    const auto value = [&](int64_t j) {
      const T h = (from[j] - mean) * rstd;
      return rstd * (grad[j] * weight[j] - sum - h * product);
    };
    map_row(value, cols, dx + row * cols);
  }
}

}  // namespace needle
