// optimizer.cuh: one optimizer step of many parameters in one launch and one pass over memory.
//
// Contract: the arrays of a parameter are compact, of one size and floating type. `out` is new
// memory; moments are updated in place. The parameters come as a table among the kernel's own
// parameters, of which there are at most 4 KB: nothing is uploaded. A block updates a share of one
// of them, 16 bytes an access where all its arrays are aligned. Bound: memory bandwidth.
#pragma once

#include "functions.cuh"

namespace needle {

constexpr int TABLE = 64;               // parameters of a launch
constexpr int64_t BLOCK_BYTES = 16384;  // of an array, that a block updates

// What an optimizer has of each of `count` parameters; `blocks` is how many blocks the parameters
// up to it take. The arrays are p, its gradient, the new p and the moments.
template <class T, int MOMENTS>
struct Table {
  int64_t count, blocks[TABLE], size[TABLE];
  T* array[3 + MOMENTS][TABLE];

  __device__ int parameter_of(int64_t block) const {
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
  __device__ bool is_aligned(int parameter) const {
    uint64_t bits = 0;
#pragma unroll
    for (int a = 0; a < 3 + MOMENTS; ++a) bits |= reinterpret_cast<uint64_t>(array[a][parameter]);
    return bits % 16 == 0;
  }
};

// Numbers [i, i + W) of a parameter.
template <int W, class T, int MOMENTS, class Step>
__device__ void update_pack(const Table<T, MOMENTS>& table, int parameter, int64_t i,
                            const Step& step) {
  const auto at = [&](int a) {
    return reinterpret_cast<Pack<T, W>*>(table.array[a][parameter] + i);
  };
  Pack<T, W> moments[MOMENTS + 1], p = *at(0);
  const Pack<T, W> grad = *at(1);
#pragma unroll
  for (int m = 0; m < MOMENTS; ++m) moments[m] = *at(3 + m);
#pragma unroll
  for (int j = 0; j < W; ++j) {
    p.item[j] = step(p.item[j], grad.item[j], moments[0].item[j], moments[MOMENTS > 1].item[j]);
  }
#pragma unroll
  for (int m = 0; m < MOMENTS; ++m) *at(3 + m) = moments[m];
  *at(2) = p;
}

// step(p, gradient, moment, moment) is the new p; there may be fewer moments.
template <class T, int MOMENTS, class Step>
__device__ void update(const Table<T, MOMENTS>& table, const Step& step) {
  static_assert(sizeof(table) <= 4096 - 64, "the parameters of a kernel, with the numbers of Adam");
  constexpr int W = 16 / sizeof(T);
  constexpr int64_t SHARE = BLOCK_BYTES / sizeof(T);
  const int64_t block = blockIdx.x;
  const int parameter = table.parameter_of(block);
  const int64_t before = parameter == 0 ? 0 : table.blocks[parameter - 1];
  const int64_t first = (block - before) * SHARE, left = table.size[parameter] - first;
  const int64_t size = left < SHARE ? left : SHARE;
  const int64_t packed = table.is_aligned(parameter) ? size / W * W : 0;
#pragma unroll 1
  for (int64_t i = threadIdx.x * W; i < packed; i += blockDim.x * W) {
    update_pack<W>(table, parameter, first + i, step);
  }
#pragma unroll 1
  for (int64_t i = packed + threadIdx.x; i < size; i += blockDim.x) {
    update_pack<1>(table, parameter, first + i, step);
  }
}

// u = momentum·u + (1 - dampening)·g;  p - lr·u, or p - lr·(g + momentum·u) for Nesterov.
template <bool NESTEROV, class T, int MOMENTS>
__device__ void sgd(const Table<T, MOMENTS>& table, double lr, double momentum, double decay,
                    double dampening) {
  update(table, [=](T p, T grad, T& u, T&) {
    const T g = grad + T(decay) * p;
    T direction = g;
    if constexpr (MOMENTS > 0) {
      u = T(momentum) * u + T(1 - dampening) * g;
      direction = NESTEROV ? g + T(momentum) * u : u;
    }
    return p - T(lr) * direction;
  });
}

// Kingma and Ba 2015, "Adam", algorithm 1; decoupled decay: Loshchilov and Hutter 2019, "AdamW".
// `unbias1` and `unbias2` are 1 / (1 - beta^step), `keep` what decoupled decay leaves of p.
template <class T>
__device__ void adam(const Table<T, 2>& table, double lr, double beta1, double beta2, double eps,
                     double l2, double keep, double unbias1, double unbias2) {
  update(table, [=](T p, T grad, T& m, T& v) {
    const T g = grad + T(l2) * p;
    m = T(beta1) * m + T(1 - beta1) * g;
    v = T(beta2) * v + T(1 - beta2) * g * g;
    return T(keep) * p - T(lr) * (m * T(unbias1)) / (f::sqrt(v * T(unbias2)) + T(eps));
  });
}

}  // namespace needle
