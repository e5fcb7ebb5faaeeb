// optimizer.cuh: one optimizer step of many parameters, or the norm of their gradients, in one
// launch and one pass over memory.
//
// Contract: the arrays of a parameter are compact, of one size and floating type. `out` is new
// memory; moments are updated in place. The arrays come as a table among the kernel's own
// parameters, of which there are at most 4 KB: nothing is uploaded. A block goes over a share of
// one row, 16 bytes an access where all its arrays are aligned. Bound: memory bandwidth.
#pragma once

#include "functions.cuh"

namespace needle {

constexpr int TABLE = 64;               // rows of a launch
constexpr int64_t BLOCK_BYTES = 16384;  // of an array, that a block goes over

// `count` rows of arrays of one size; `blocks` is how many blocks the rows up to one take.
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

// Calls each(width, row, i) for the packs, W numbers from the i-th on, of this block's share.
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

// step(p, gradient, moment, moment) is the new p; there may be fewer moments. The arrays are p, its
// gradient, the new p and the moments.
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

// u = momentum·u + (1 - dampening)·g;  p - lr·u, or p - lr·(g + momentum·u) for Nesterov.
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
// `unbias1` and `unbias2` are 1 / (1 - beta^step), `keep` what decoupled decay leaves of p.
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

// The sum of the squares of each block's share, in double.
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
