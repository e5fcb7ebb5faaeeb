// optimizer.h: one optimizer step of one parameter in one pass over memory.
//
// Contract: all arrays are compact and have the same shape and dtype. `out` is new memory; the
// moments are updated in place. Bound: memory bandwidth.
#pragma once

#include "../kernels.h"
#include "rows.h"

namespace needle::NEEDLE_ISA {

inline int64_t element_count(const View& v) {
  int64_t n = 1;
  for (int axis = 0; axis < v.ndim; ++axis) n *= v.shape[axis];
  return n;
}

template <typename T, typename Body>
void for_each_part(const OptimizerStep& s, const Body& body) {
  parallel_range(element_count(s.out), 2, [&](int64_t begin, int64_t end) { body(begin, end); });
}

// u = momentum·u + (1 - dampening)·g;  p - lr·u, or p - lr·(g + momentum·u) for Nesterov.
inline void sgd(const OptimizerStep& s, const SgdOptions& options) {
  NEEDLE_DISPATCH_FLOAT(s.out.dtype, {
    const T lr = static_cast<T>(options.lr), decay = static_cast<T>(options.weight_decay);
    const T momentum = static_cast<T>(options.momentum);
    const T fresh = static_cast<T>(1 - options.dampening);
    for_each_part<T>(s, [&](int64_t begin, int64_t end) {
      const T* __restrict p = vector_data<const T>(s.parameter);
      const T* __restrict grad = vector_data<const T>(s.gradient);
      T* __restrict u = vector_data<T>(s.first);
      T* __restrict out = vector_data<T>(s.out);
      if (u == nullptr) {
        for (int64_t i = begin; i < end; ++i) out[i] = p[i] - lr * (grad[i] + decay * p[i]);
        return;
      }
      const bool nesterov = options.nesterov;
      for (int64_t i = begin; i < end; ++i) {
        const T g = grad[i] + decay * p[i];
        u[i] = momentum * u[i] + fresh * g;
        out[i] = p[i] - lr * (nesterov ? g + momentum * u[i] : u[i]);
      }
    });
  })
}

// Kingma & Ba 2015, "Adam", algorithm 1; decoupled decay: Loshchilov & Hutter 2019, "AdamW".
inline void adam(const OptimizerStep& s, const AdamOptions& options) {
  NEEDLE_DISPATCH_FLOAT(s.out.dtype, {
    const T beta1 = static_cast<T>(options.beta1), beta2 = static_cast<T>(options.beta2);
    // Computed in double, because 1 - 0.999f has a relative error of 1e-5.
    const T fresh1 = static_cast<T>(1 - options.beta1), fresh2 = static_cast<T>(1 - options.beta2);
    const T eps = static_cast<T>(options.eps);
    const double step = static_cast<double>(options.step);
    const T unbias1 = static_cast<T>(1 / (1 - std::pow(options.beta1, step)));
    const T unbias2 = static_cast<T>(1 / (1 - std::pow(options.beta2, step)));
    const T lr = static_cast<T>(options.lr);
    const T l2 = options.decoupled ? T(0) : static_cast<T>(options.weight_decay);
    const T keep = options.decoupled ? static_cast<T>(1 - options.lr * options.weight_decay) : T(1);
    for_each_part<T>(s, [&](int64_t begin, int64_t end) {
      const T* __restrict p = vector_data<const T>(s.parameter);
      const T* __restrict grad = vector_data<const T>(s.gradient);
      T* __restrict m = vector_data<T>(s.first);
      T* __restrict v = vector_data<T>(s.second);
      T* __restrict out = vector_data<T>(s.out);
      for (int64_t i = begin; i < end; ++i) {
        const T g = grad[i] + l2 * p[i];
        m[i] = beta1 * m[i] + fresh1 * g;
        v[i] = beta2 * v[i] + fresh2 * g * g;
        out[i] = keep * p[i] - lr * (m[i] * unbias1) / (std::sqrt(v[i] * unbias2) + eps);
      }
    });
  })
}

}  // namespace needle::NEEDLE_ISA
