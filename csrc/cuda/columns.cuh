// columns.cuh: reductions over the rows of a matrix: batch norm, forward and backward, and the
// gradients of the weights of layer norm.
//
// Contract: matrices (rows, cols) and vectors are contiguous and of one floating type. The order of
// additions is fixed. A sum is within 64·u·Σ|x| of the exact one, whatever the number of rows.
//
// Idea: a thread block reduces one part of the rows in a strip of `width` columns (a power of two,
// at most a warp). Neighbouring threads have neighbouring columns, so that accesses are coalesced.
// The first kernel writes one partial result per part and column. A second kernel combines the
// partial results: its rows are the parts of the first, and it takes them as a single part. Each
// thread adds ROWS numbers plainly, then adds these partial sums with compensation (sums.cuh), so
// that the error does not grow with the number of rows.
//
// Bound: memory bandwidth; a thread has the loads of `ROWS` rows in flight. Forward reads x twice,
// backward reads g and x twice.
#pragma once

#include "functions.cuh"
#include "sums.cuh"

namespace needle {

constexpr int COLUMN_THREADS = 256, ROWS = 8;

// The elements that a thread reduces: those in column `column` of every `step`-th row in
// [first, end).
struct Strip {
  int64_t cols, column, part, first, end;
  int step;

  __device__ Strip(int64_t rows, int64_t cols, int64_t width, int64_t parts) : cols(cols) {
    const int across = static_cast<int>(width), lane = threadIdx.x / across;
    const int64_t strips = (cols + width - 1) / width;
    column = blockIdx.x % strips * width + threadIdx.x % across, part = blockIdx.x / strips;
    first = rows * part / parts + lane;
    end = column < cols ? rows * (part + 1) / parts : 0;
    step = blockDim.x / across;
  }

  // The elements of N of the thread's rows, from `row` on.
  template <int N, class T>
  __device__ Pack<T, N> load(const T* x, int64_t row) const {
    Pack<T, N> items;
#pragma unroll
    for (int i = 0; i < N; ++i) items.item[i] = x[(row + i * step) * cols + column];
    return items;
  }

  // Calls body(N, row) for each group of N of the thread's rows; `row` is the first of the group.
  template <class Body>
  __device__ void each(Body body) const {
    int64_t row = first;
    for (; row + (ROWS - 1) * step < end; row += ROWS * step) body(Number<ROWS>{}, row);
    for (; row < end; row += step) body(Number<1>{}, row);
  }

  // Sums the values of a column over the block. One thread of each column calls write(sum).
  template <class Value, class Write>
  __device__ void sum(const Value& mine, Write write) const {
    __shared__ Value values[COLUMN_THREADS];
    const unsigned width = blockDim.x / step;
    values[threadIdx.x] = mine;
    for (unsigned half = blockDim.x / 2; half >= width; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) {
        values[threadIdx.x] = values[threadIdx.x] + values[threadIdx.x + half];
      }
    }
    if (threadIdx.x < width && column < cols) write(values[threadIdx.x]);
  }
};

// Combines the partial results of another kernel, which are a row for each part, into one value per
// column.
template <class Value, class Write>
__device__ void sum_parts(const Strip& strip, const Value* found, Write write) {
  typename Value::Running mine;
  for (int64_t row = strip.first; row < strip.end; row += strip.step) {
    mine.add(found[row * strip.cols + strip.column]);
  }
  strip.sum(mine.value(), [&](const Value& all) { write(strip.column, all); });
}

// ---- statistics -------------------------------------------------------------------------------

// The count of some numbers, their mean, and the sum of their squared deviations from the mean. Two
// of them are combined as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
// for Computing Sample Variances" (1979), without cancellation where the mean is far from 0.
template <class T>
struct Moments {
  T count, mean, squares;

  __device__ Moments operator+(const Moments& other) const {
    const T all = count + other.count, share = all > T(0) ? other.count / all : T(0);
    const T apart = other.mean - mean;
    return {all, mean + apart * share, squares + other.squares + apart * (apart * count * share)};
  }

  // Combines many Moments one after the other, with compensation.
  struct Running {
    T count = T(0);
    RunningSum<T> mean, squares;

    __device__ void add(const Moments& other) {
      const T all = count + other.count, share = all > T(0) ? other.count / all : T(0);
      const T apart = (other.mean - mean.sum) + mean.lost;
      mean.add(apart * share);
      squares.add(other.squares + apart * (apart * count * share));
      count = all;
    }
    __device__ Moments value() const { return {count, mean.value(), squares.value()}; }
  };
};

template <class T, int N>
__device__ Moments<T> moments(const Pack<T, N>& x) {
  T sum = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += x.item[i];
  const T mean = sum / T(N);
#pragma unroll
  for (int i = 0; i < N; ++i) squares += f::square(x.item[i] - mean);
  return {T(N), mean, squares};
}

template <class T>
__device__ void column_moments(int64_t rows, int64_t cols, int64_t width, int64_t parts, const T* x,
                               Moments<T>* found) {
  const Strip strip(rows, cols, width, parts);
  typename Moments<T>::Running mine;
  strip.each([&](auto n, int64_t row) { mine.add(moments(strip.load<n.value>(x, row))); });
  strip.sum(mine.value(),
            [&](const Moments<T>& all) { found[strip.part * cols + strip.column] = all; });
}

template <class T>
__device__ void sum_moments(int64_t rows, int64_t cols, int64_t width, int64_t parts,
                            const Moments<T>* found, T* mean, T* var) {
  sum_parts(Strip(rows, cols, width, parts), found, [&](int64_t column, const Moments<T>& all) {
    mean[column] = all.mean, var[column] = all.squares / all.count;
  });
}

// ---- gradients of weights ---------------------------------------------------------------------

// The sums of g·h and of g, where h is the normalized x.
template <class T>
struct WeightGrads {
  T weight, bias;

  __device__ WeightGrads operator+(const WeightGrads& other) const {
    return {weight + other.weight, bias + other.bias};
  }

  // Adds many WeightGrads one after the other, with compensation.
  struct Running {
    RunningSum<T> weight, bias;

    __device__ void add(const WeightGrads& other) {
      weight.add(other.weight), bias.add(other.bias);
    }
    __device__ WeightGrads value() const { return {weight.value(), bias.value()}; }
  };
};

template <class T, class Normal>
__device__ void weight_grads(const Strip& strip, const T* g, const T* x, WeightGrads<T>* found,
                             Normal normal) {
  typename WeightGrads<T>::Running mine;
  strip.each([&](auto n, int64_t row) {
    const auto gs = strip.load<n.value>(g, row), xs = strip.load<n.value>(x, row);
    WeightGrads<T> some{};
#pragma unroll
    for (int i = 0; i < n.value; ++i) {
      some.weight += gs.item[i] * normal(xs.item[i], row + i * strip.step);
      some.bias += gs.item[i];
    }
    mine.add(some);
  });
  strip.sum(mine.value(), [&](const WeightGrads<T>& all) {
    found[strip.part * strip.cols + strip.column] = all;
  });
}

template <class T>
__device__ void layer_norm_weight_grads(int64_t rows, int64_t cols, int64_t width, int64_t parts,
                                        const T* g, const T* x, const T* means, const T* rstds,
                                        WeightGrads<T>* found) {
  weight_grads(Strip(rows, cols, width, parts), g, x, found,
               [=](T value, int64_t row) { return (value - means[row]) * rstds[row]; });
}

template <class T>
__device__ void sum_weight_grads(int64_t rows, int64_t cols, int64_t width, int64_t parts,
                                 const WeightGrads<T>* found, T* dweight, T* dbias) {
  sum_parts(Strip(rows, cols, width, parts), found, [&](int64_t column, const WeightGrads<T>& all) {
    dweight[column] = all.weight, dbias[column] = all.bias;
  });
}

// ---- batch norm -------------------------------------------------------------------------------

template <class T>
__device__ void batch_norm(int64_t rows, int64_t cols, int64_t width, int64_t parts, const T* x,
                           const T* weight, const T* bias, const T* mean, const T* var, double eps,
                           T* out) {
  const Strip strip(rows, cols, width, parts);
  if (strip.column >= cols) return;
  const int64_t j = strip.column;
  const T centre = mean[j], scale = weight[j] * f::rsqrt(var[j] + T(eps)), shift = bias[j];
  strip.each([&](auto n, int64_t row) {
    const auto xs = strip.load<n.value>(x, row);
#pragma unroll
    for (int i = 0; i < n.value; ++i) {
      out[(row + i * strip.step) * cols + j] = (xs.item[i] - centre) * scale + shift;
    }
  });
}

template <class T>
__device__ void batch_norm_weight_grads(int64_t rows, int64_t cols, int64_t width, int64_t parts,
                                        const T* g, const T* x, const T* mean, const T* var,
                                        double eps, WeightGrads<T>* found) {
  const Strip strip(rows, cols, width, parts);
  const bool there = strip.column < cols;
  const T centre = there ? mean[strip.column] : T(0);
  const T rstd = there ? f::rsqrt(var[strip.column] + T(eps)) : T(0);
  weight_grads(strip, g, x, found, [=](T value, int64_t) { return (value - centre) * rstd; });
}

// Let h = (x - mean)·rstd. Then dx = w·rstd·(g - mean(g) - h·mean(g·h)) (Ioffe and Szegedy, 2015).
template <class T>
__device__ void batch_norm_grad(int64_t rows, int64_t cols, int64_t width, int64_t parts,
                                const T* g, const T* x, const T* weight, const T* mean,
                                const T* var, double eps, const T* dweight, const T* dbias, T* dx) {
  const Strip strip(rows, cols, width, parts);
  if (strip.column >= cols) return;
  const int64_t j = strip.column;
  const T centre = mean[j], rstd = f::rsqrt(var[j] + T(eps)), scale = weight[j] * rstd;
  const T grad_mean = dbias[j] / T(rows), slope = rstd * dweight[j] / T(rows);
  strip.each([&](auto n, int64_t row) {
    const auto gs = strip.load<n.value>(g, row), xs = strip.load<n.value>(x, row);
#pragma unroll
    for (int i = 0; i < n.value; ++i) {
      const T rest = gs.item[i] - grad_mean - (xs.item[i] - centre) * slope;
      dx[(row + i * strip.step) * cols + j] = scale * rest;
    }
  });
}

}  // namespace needle
