// matmul.h: batched matrix products, and the course's product of tiled matrices.
#pragma once

#include "../kernels.h"
#include "gemm.h"
#include "gemm16.h"
#include "rows.h"

namespace needle::NEEDLE_ISA {

// a (…, m, k) @ b (…, k, n) -> out (…, m, n), a compact array; bias (n,) or null. All are of one
// dtype, or each is of bfloat16 or float32.
inline void matmul(const View& a, const View& b, const View& out, const View* bias) {
  for (const View* x : {&a, &b, &out})
    if (x->dtype == DType::BFloat16) return needle::kernels().matmul16(a, b, out, bias);
  const int d = out.ndim;
  const int64_t m = out.shape[d - 2], n = out.shape[d - 1], k = a.shape[d - 1];
  int64_t batch = 1;
  for (int axis = 0; axis < d - 2; ++axis) batch *= out.shape[axis];
  NEEDLE_DISPATCH(out.dtype, {
    const auto product = [&](int64_t number) {
      const T* x = reinterpret_cast<const T*>(a.data);
      const T* y = reinterpret_cast<const T*>(b.data);
      int64_t rest = number;
      for (int axis = d - 3; axis >= 0; --axis) {
        x += rest % out.shape[axis] * a.strides[axis];
        y += rest % out.shape[axis] * b.strides[axis];
        rest /= out.shape[axis];
      }
      gemm<T>(m, n, k, x, a.strides[d - 2], a.strides[d - 1], y, b.strides[d - 2], b.strides[d - 1],
              reinterpret_cast<T*>(out.data) + number * m * n, n,
              bias ? reinterpret_cast<const T*>(bias->data) : nullptr, bias ? bias->strides[0] : 0);
    };
    // Small products run in parallel; a large product uses all threads by itself.
    if (batch > 1 && m * n * k < (int64_t{1} << 22)) {
      parallel_range(batch, m * n * k / 8, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) product(i);
      });
    } else {
      for (int64_t i = 0; i < batch; ++i) product(i);
    }
  })
}

// One tile: out += a b; all three are t x t. The compiler keeps a row of `out` in registers.
inline void multiply_tile(const float* __restrict a, const float* __restrict b,
                          float* __restrict out) {
  constexpr int64_t t = TILE_SIZE;
  for (int64_t i = 0; i < t; ++i) {
    for (int64_t k = 0; k < t; ++k) {
      for (int64_t j = 0; j < t; ++j) out[i * t + j] += a[i * t + k] * b[k * t + j];
    }
  }
}

// out (m/t, p/t, t, t) = a (m/t, n/t, t, t) times b (n/t, p/t, t, t).
inline void matmul_tiled(const float* a, const float* b, float* out, int64_t m, int64_t n,
                         int64_t p) {
  constexpr int64_t t = TILE_SIZE, area = t * t;
  std::fill_n(out, m * p, 0.0f);
  for (int64_t i = 0; i < m / t; ++i) {
    for (int64_t j = 0; j < p / t; ++j) {
      for (int64_t k = 0; k < n / t; ++k) {
        multiply_tile(a + (i * (n / t) + k) * area, b + (k * (p / t) + j) * area,
                      out + (i * (p / t) + j) * area);
      }
    }
  }
}

}  // namespace needle::NEEDLE_ISA
