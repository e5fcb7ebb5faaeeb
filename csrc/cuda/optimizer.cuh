// optimizer.cuh: one optimizer step of one parameter in one pass over memory.
//
// Contract: all arrays are compact, of one size and floating type. `out` is new memory; moments are
// updated in place. Bound: memory bandwidth.
#pragma once

#include "functions.cuh"

namespace needle {

// u = momentum·u + (1 - dampening)·g;  p - lr·u, or p - lr·(g + momentum·u) for Nesterov.
template <bool MOMENTUM, bool NESTEROV, class T>
__device__ void sgd(int64_t size, const T* p, const T* grad, T* u, T* out, double lr,
                    double momentum, double decay, double dampening) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    const T g = grad[i] + T(decay) * p[i];
    T direction = g;
    if constexpr (MOMENTUM) {
      u[i] = T(momentum) * u[i] + T(1 - dampening) * g;
      direction = NESTEROV ? g + T(momentum) * u[i] : u[i];
    }
    out[i] = p[i] - T(lr) * direction;
  }
}

// Kingma and Ba 2015, "Adam", algorithm 1; decoupled decay: Loshchilov and Hutter 2019, "AdamW".
// `unbias1` and `unbias2` are 1 / (1 - beta^step), `keep` what decoupled decay leaves of p.
template <class T>
__device__ void adam(int64_t size, const T* p, const T* grad, T* m, T* v, T* out, double lr,
                     double beta1, double beta2, double eps, double l2, double keep, double unbias1,
                     double unbias2) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    const T g = grad[i] + T(l2) * p[i];
    m[i] = T(beta1) * m[i] + T(1 - beta1) * g;
    v[i] = T(beta2) * v[i] + T(1 - beta2) * g * g;
    out[i] = T(keep) * p[i] - T(lr) * (m[i] * T(unbias1)) / (f::sqrt(v[i] * T(unbias2)) + T(eps));
  }
}

}  // namespace needle
