// optimizer.cuh: multi-tensor optimizer steps. One launch updates many parameters, or computes the
// norm of their gradients, in a single pass over memory.
//
// Contract: the arrays of a parameter are contiguous and have the same size and floating type. The
// new parameter goes to new memory; moments are updated in place.
//
// Idea: a table of the arrays is passed as a kernel parameter, so that nothing is copied to the GPU
// before the launch. The limit of 4 KB for kernel parameters bounds the size of the table. A thread
// block processes a share of one row of the table, with accesses of 16 bytes where all arrays of
// the row are aligned.
//
// Bound: memory bandwidth.
#pragma once

#include "functions.cuh"

namespace needle {

constexpr int TABLE = 64;               // rows of the table, at most
constexpr int64_t BLOCK_BYTES = 16384;  // bytes of each array that a block processes

// `count` rows of arrays; the arrays of a row have the same size. blocks[row] is the inclusive
// prefix sum of the numbers of thread blocks of the rows.
template <class T, int ARRAYS>
struct Table {
  int64_t count, blocks[TABLE], size[TABLE];
  T* array[ARRAYS][TABLE];

  __device__ int row_of(int64_t block) const {
    int low = 0, high = static_cast<int>(count) - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (block < blocks[middle])
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
  __device__ bool is_aligned(int row) const {
    uint64_t bits = 0;
#pragma unroll
    for (int a = 0; a < ARRAYS; ++a) bits |= reinterpret_cast<uint64_t>(array[a][row]);
    return bits % 16 == 0;
  }
  template <int W>
  __device__ Pack<T, W>& pack(int a, int row, int64_t i) const {
    return *reinterpret_cast<Pack<T, W>*>(array[a][row] + i);
  }
};

template <int W>
struct Width {
  static constexpr int WIDTH = W;
};

// Calls each(width, row, i) for the packs in this block's share. A pack is the `width` elements of
// a row from element i on.
template <class T, int ARRAYS, class Each>
__device__ void over_share(const Table<T, ARRAYS>& table, Each each) {
  static_assert(sizeof(table) <= 4096 - 64, "the parameters of a kernel, with the numbers of Adam");
  constexpr int W = 16 / sizeof(T);
  constexpr int64_t SHARE = BLOCK_BYTES / sizeof(T);
  const int64_t block = blockIdx.x;
  const int row = table.row_of(block);
  const int64_t first = (block - (row == 0 ? 0 : table.blocks[row - 1])) * SHARE;
  const int64_t left = table.size[row] - first, size = left < SHARE ? left : SHARE;
  const int64_t packed = table.is_aligned(row) ? size / W * W : 0;
#pragma unroll 1
  for (int64_t i = threadIdx.x * W; i < packed; i += blockDim.x * W) {
    each(Width<W>{}, row, first + i);
  }
#pragma unroll 1
  for (int64_t i = packed + threadIdx.x; i < size; i += blockDim.x) {
    each(Width<1>{}, row, first + i);
  }
}

// ---- steps ------------------------------------------------------------------------------------

// Applies p_new = step(p, gradient, moment, moment), which also updates the moments. Fewer than two
// moments are allowed. The arrays of a row are p, its gradient, p_new and the moments.
template <class T, int ARRAYS, class Step>
__device__ void update(const Table<T, ARRAYS>& table, const Step& step) {
  constexpr int MOMENTS = ARRAYS - 3;
  over_share(table, [&](auto width, int row, int64_t i) {
    constexpr int W = decltype(width)::WIDTH;
    Pack<T, W> moments[MOMENTS + 1], p = table.template pack<W>(0, row, i);
    const Pack<T, W> grad = table.template pack<W>(1, row, i);
#pragma unroll
    for (int m = 0; m < MOMENTS; ++m) moments[m] = table.template pack<W>(3 + m, row, i);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      p.item[j] = step(p.item[j], grad.item[j], moments[0].item[j], moments[MOMENTS > 1].item[j]);
    }
#pragma unroll
    for (int m = 0; m < MOMENTS; ++m) table.template pack<W>(3 + m, row, i) = moments[m];
    table.template pack<W>(2, row, i) = p;
  });
}

// u = momentum·u + (1 - dampening)·g. The new p is p - lr·u, or p - lr·(g + momentum·u) for
// Nesterov momentum.
template <bool NESTEROV, class T, int ARRAYS>
__device__ void sgd(const Table<T, ARRAYS>& table, double lr, double momentum, double decay,
                    double dampening) {
  update(table, [=](T p, T grad, T& u, T&) {
    const T g = grad + T(decay) * p;
    T direction = g;
    if constexpr (ARRAYS > 3) {
      u = T(momentum) * u + T(1 - dampening) * g;
      direction = NESTEROV ? g + T(momentum) * u : u;
    }
    return p - T(lr) * direction;
  });
}

// Kingma and Ba 2015, "Adam", algorithm 1; decoupled decay: Loshchilov and Hutter 2019, "AdamW".
// `unbias1` and `unbias2` are the bias corrections 1 / (1 - beta^step) of the two moments. `keep`
// is the factor by which decoupled weight decay shrinks p.
template <class T>
__device__ void adam(const Table<T, 5>& table, double lr, double beta1, double beta2, double eps,
                     double l2, double keep, double unbias1, double unbias2) {
  update(table, [=](T p, T grad, T& m, T& v) {
    const T g = grad + T(l2) * p;
    m = T(beta1) * m + T(1 - beta1) * g;
    v = T(beta2) * v + T(1 - beta2) * g * g;
    return T(keep) * p - T(lr) * (m * T(unbias1)) / (f::sqrt(v * T(unbias2)) + T(eps));
  });
}

// ---- norms ------------------------------------------------------------------------------------

// Computes the sum of squares of each block's share, in double.
template <class T>
__device__ void sums_of_squares(const Table<T, 1>& table, double* sums) {
  double sum = 0;
  over_share(table, [&](auto width, int row, int64_t i) {
    for (T x : table.template pack<decltype(width)::WIDTH>(0, row, i).item) sum += double(x) * x;
  });
  sum = over_block(sum, 0.0, [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

}  // namespace needle
