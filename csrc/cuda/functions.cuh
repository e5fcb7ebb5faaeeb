// functions.cuh: the scalar functions of element-wise ops, with the same names and meanings as in
// csrc/cpu/kernels/functions.h. Functions that need nothing specific to CUDA are in csrc/common.
#pragma once

#include "../common/library.h"
#include "common.cuh"

namespace needle::f {

// float uses the single-precision functions of CUDA; all other types use those for double.
#define NEEDLE_FLOAT_FUNCTION(name, single, general) \
  template <class T>                                 \
  __device__ T name(T x) {                           \
    if constexpr (is_same<T, float>)                 \
      return single;                                 \
    else {                                           \
      const double d = static_cast<double>(x);       \
      return static_cast<T>(general);                \
    }                                                \
  }
NEEDLE_FLOAT_FUNCTION(exp, ::expf(x), ::exp(d))
NEEDLE_FLOAT_FUNCTION(log, ::logf(x), ::log(d))
NEEDLE_FLOAT_FUNCTION(log1p, ::log1pf(x), ::log1p(d))
NEEDLE_FLOAT_FUNCTION(expm1, ::expm1f(x), ::expm1(d))
NEEDLE_FLOAT_FUNCTION(tanh, ::tanhf(x), ::tanh(d))
NEEDLE_FLOAT_FUNCTION(sigmoid, 1.0f / (1.0f + ::expf(-x)), 1.0 / (1.0 + ::exp(-d)))
NEEDLE_FLOAT_FUNCTION(erf, ::erff(x), ::erf(d))
NEEDLE_FLOAT_FUNCTION(sin, ::sinf(x), ::sin(d))
NEEDLE_FLOAT_FUNCTION(cos, ::cosf(x), ::cos(d))
NEEDLE_FLOAT_FUNCTION(sqrt, ::sqrtf(x), ::sqrt(d))
NEEDLE_FLOAT_FUNCTION(rsqrt, 1.0f / ::sqrtf(x), 1.0 / ::sqrt(d))
NEEDLE_FLOAT_FUNCTION(reciprocal, 1.0f / x, 1.0 / d)
NEEDLE_FLOAT_FUNCTION(floor, ::floorf(x), ::floor(d))
NEEDLE_FLOAT_FUNCTION(ceil, ::ceilf(x), ::ceil(d))
NEEDLE_FLOAT_FUNCTION(round, ::rintf(x), ::rint(d))
#define NEEDLE_LIBRARY_FUNCTION(name) NEEDLE_FLOAT_FUNCTION(name, ::name##f(x), ::name(d))
NEEDLE_LIBRARY_FUNCTIONS(NEEDLE_LIBRARY_FUNCTION)
#undef NEEDLE_LIBRARY_FUNCTION
#undef NEEDLE_FLOAT_FUNCTION

template <class T>
__device__ T magnitude(T x) {
  return x < T(0) || x == T(0) ? T(0) - x : x;
}
__device__ inline float remainder(float a, float b) { return ::fmodf(a, b); }
__device__ inline double remainder(double a, double b) { return ::fmod(a, b); }
// Squares are a special case, because CUDA's pow takes about a hundred instructions.
__device__ inline float power(float a, float b) { return b == 2.0f ? a * a : ::powf(a, b); }
__device__ inline double power(double a, double b) { return b == 2.0 ? a * a : ::pow(a, b); }

}  // namespace needle::f

#define NEEDLE_FUNCTIONS needle::f
#define NEEDLE_FUNCTION __device__
#include "../common/functions.h"
