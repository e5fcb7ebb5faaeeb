// rows.cuh: softmax, cross-entropy and layer norm of the rows of a matrix, with their gradients;
// those of layer norm's weights are in columns.cuh.
//
// Contract: matrices are compact (rows, cols) of one floating type, vectors compact. A block takes
// a row: its threads stride over the columns and combine what they have in a fixed order. Bound:
// memory bandwidth; a row is read from the caches after its first reading.
#pragma once

#include "reduce.cuh"

namespace needle {

// out[j] = f(j) for the columns of a row, where f reads nothing that is written.
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

// The largest number of a row and the sum of exp(x - largest), found in one reading: whenever a
// larger one comes, the sum so far is scaled (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018). The sum of a row whose largest number is infinite is NaN.
template <class T>
struct Exponentials {
  T top, sum;
};

template <class T>
__device__ Exponentials<T> joined(const Exponentials<T>& a, const Exponentials<T>& b) {
  const T top = f::maximum(a.top, b.top);
  // The difference of two infinities is NaN where exp(0) is meant.
  const T left = a.top == top ? T(1) : f::exp(a.top - top);
  const T right = b.top == top ? T(1) : f::exp(b.top - top);
  return {top, a.sum * left + b.sum * right};
}

// Those of some numbers.
template <class T>
__device__ Exponentials<T> exponentials(const T (&x)[LOADS]) {
  Exponentials<T> e{x[0], T(0)};
#pragma unroll
  for (int i = 1; i < LOADS; ++i) e.top = f::maximum(e.top, x[i]);
#pragma unroll
  for (int i = 0; i < LOADS; ++i) e.sum += x[i] == e.top ? T(1) : f::exp(x[i] - e.top);
  return e;
}

template <class T>
__device__ Exponentials<T> row_exponentials(const T* x, int64_t cols) {
  Exponentials<T> mine{lowest<T>(), T(0)};
  const int64_t step = blockDim.x;
  int64_t j = threadIdx.x;
  for (; j + (LOADS - 1) * step < cols; j += LOADS * step) {
    T some[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; ++i) some[i] = x[j + i * step];
    mine = joined(mine, exponentials(some));
  }
  for (; j < cols; j += step) mine = joined(mine, Exponentials<T>{x[j], T(1)});
  const T top = over_block(mine.top, lowest<T>(), Max{});
  const T scaled = mine.top == top ? mine.sum : mine.sum * f::exp(mine.top - top);
  return {top, over_block(scaled, T(0), Sum{}) + (top - top)};
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

// The first label that is neither a class nor the ignored one goes to `bad`, as its position.
__device__ inline void check_labels(int64_t rows, int64_t cols, const int64_t* labels,
                                    int64_t ignored, unsigned long long* bad) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < rows; i += step) {
    if (labels[i] != ignored && (labels[i] < 0 || labels[i] >= cols)) {
      atomicMin(bad, static_cast<unsigned long long>(i));
    }
  }
}

// loss = logsumexp - (1 - smoothing)·logit[label] - smoothing·mean(logits); 0 in ignored rows.
// lse (rows, 2) gets the terms of the logsumexp, e.top and log(e.sum).
template <class T>
__device__ void cross_entropy(int64_t rows, int64_t cols, const T* logits, const int64_t* labels,
                              T* losses, T* lse, int64_t ignored, double smoothing) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* x = logits + row * cols;
    const int64_t label = labels[row];
    const bool kept = label != ignored && label >= 0 && label < cols;  // others: see check_labels
    const Exponentials<T> e = row_exponentials(x, cols);
    T shifted = 0;
    if (smoothing > 0) {
      for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) shifted += x[j] - e.top;
      shifted = over_block(shifted, T(0), Sum{});
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

// scale[row]·(softmax - target), the target (1 - smoothing)·one_hot(label) + smoothing / cols.
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
    T sum = 0, squares = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) sum += from[j];
    const T mean = over_block(sum, T(0), Sum{}) / T(cols);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) squares += f::square(from[j] - mean);
    const T var = over_block(squares, T(0), Sum{}) / T(cols), rstd = f::rsqrt(var + T(eps));
    const auto value = [&](int64_t j) { return (from[j] - mean) * rstd * weight[j] + bias[j]; };
    map_row(value, cols, out + row * cols);
    if (threadIdx.x == 0) means[row] = mean, rstds[row] = rstd;
  }
}

// With h = (x - mean)·rstd and p = g·w: dx = rstd·(p - mean(p) - h·mean(p·h)).
template <class T>
__device__ void layer_norm_grad(int64_t rows, int64_t cols, const T* g, const T* x, const T* weight,
                                const T* means, const T* rstds, T* dx) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = x + row * cols;
    const T* grad = g + row * cols;
    const T mean = means[row], rstd = rstds[row];
    T sum = 0, product = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
      const T p = grad[j] * weight[j];
      sum += p, product += p * (from[j] - mean) * rstd;
    }
    sum = over_block(sum, T(0), Sum{}) / T(cols);
    product = over_block(product, T(0), Sum{}) / T(cols);
    const auto value = [&](int64_t j) {
      const T h = (from[j] - mean) * rstd;
      return rstd * (grad[j] * weight[j] - sum - h * product);
    };
    map_row(value, cols, dx + row * cols);
  }
}

}  // namespace needle
