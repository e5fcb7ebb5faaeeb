// functions.cuh: the scalar functions of element-wise ops, with the names and the meaning of those
// in csrc/cpu/kernels/functions.h.
#pragma once

#include "common.cuh"

namespace needle::f {

// A float uses CUDA's single-precision functions, all else the double ones.
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
#undef NEEDLE_FLOAT_FUNCTION

// A cast between element types. A float outside of an integer's range has no defined conversion:
// it goes through int64, as on the CPU. What is stored in 16 bits goes through float.
template <class To, class From>
__device__ To convert(From x) {
  if constexpr (is_same<To, From>)
    return x;
  else if constexpr (is_stored<From>)
    return convert<To>(widen(x));
  else if constexpr (is_stored<To>)
    return narrow<To>(convert<float>(x));
  else if constexpr (is_same<To, bool>)
    return x != From(0);
  else if constexpr (is_float<From> && !is_float<To>) {
    const bool fits = x >= From(-9223372036854775808.0) && x < From(9223372036854775808.0);
    return static_cast<To>(fits ? static_cast<int64_t>(x) : int64_t(1) << 63);
  } else
    return static_cast<To>(x);
}

template <class T>
__device__ T neg(T x) {
  if constexpr (is_float<T>)
    return -x;
  else
    return static_cast<T>(wrapping<T>(0) - wrapping<T>(x));
}
template <class T>
__device__ T abs(T x) {
  if constexpr (is_float<T>)
    return x < T(0) || x == T(0) ? T(0) - x : x;
  else if constexpr (is_signed<T>)
    return x < T(0) ? neg(x) : x;
  else
    return x;
}
template <class T>
__device__ T sign(T x) {
  if constexpr (is_float<T>)
    return x > T(0) ? T(1) : x < T(0) ? T(-1) : x;
  else if constexpr (is_signed<T>)
    return static_cast<T>((x > T(0)) - (x < T(0)));
  else
    return static_cast<T>(x != T(0));
}
template <class T>
__device__ T square(T x) {
  return static_cast<T>(wrapping<T>(x) * wrapping<T>(x));
}
template <class T>
__device__ T relu(T x) {
  return x < T(0) ? T(0) : x;  // NaN stays
}
template <class T>
__device__ bool isnan(T x) {
  return x != x;
}
template <class T>
__device__ bool isfinite(T x) {
  return x - x == T(0);
}
template <class T>
__device__ bool logical_not(T x) {
  return x == T(0);
}

template <class T>
__device__ T add(T a, T b) {
  return static_cast<T>(wrapping<T>(a) + wrapping<T>(b));
}
template <class T>
__device__ T sub(T a, T b) {
  return static_cast<T>(wrapping<T>(a) - wrapping<T>(b));
}
template <class T>
__device__ T mul(T a, T b) {
  return static_cast<T>(wrapping<T>(a) * wrapping<T>(b));
}

// Truncated integer quotient; 0 for a division by 0, wrapped for the one quotient that overflows.
template <class T>
__device__ T quotient(T a, T b) {
  if (b == T(0)) return T(0);
  if constexpr (is_signed<T>) {
    if (b == T(-1)) return neg(a);
  }
  return static_cast<T>(a / b);
}
template <class T>
__device__ T div(T a, T b) {
  if constexpr (is_float<T>)
    return a / b;
  else
    return quotient(a, b);
}
template <class T>
__device__ bool is_negative(T x) {
  if constexpr (is_signed<T>) return x < T(0);
  return false;
}
template <class T>
__device__ T mod(T a, T b) {  // the sign of b, as in Python
  if constexpr (is_float<T>) {
    T r;
    if constexpr (is_same<T, float>)
      r = ::fmodf(a, b);
    else
      r = ::fmod(a, b);
    return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r;
  } else {
    if (b == T(0)) return T(0);
    if constexpr (is_signed<T>) {
      if (b == T(-1)) return T(0);
    }
    const T r = static_cast<T>(a % b);
    return r != T(0) && is_negative(r) != is_negative(b) ? static_cast<T>(r + b) : r;
  }
}
template <class T>
__device__ T floor_div(T a, T b) {
  if constexpr (is_float<T>) {
    if (b == T(0)) return a / b;
    T r;
    if constexpr (is_same<T, float>)
      r = ::fmodf(a, b);
    else
      r = ::fmod(a, b);
    T q = (a - r) / b;  // whole up to its rounding
    if (r != T(0) && (r < T(0)) != (b < T(0))) q -= T(1);
    return q == T(0) ? a / b * T(0) : floor(q + T(0.5));
  } else {
    const T q = quotient(a, b);
    const bool inexact = b != T(0) && static_cast<T>(wrapping<T>(q) * wrapping<T>(b)) != a;
    return inexact && is_negative(a) != is_negative(b) ? static_cast<T>(q - 1) : q;
  }
}
template <class T>
__device__ T pow(T a, T b) {
  if constexpr (is_same<T, float>)
    return b == 2.0f ? a * a : ::powf(a, b);
  else if constexpr (is_same<T, double>)
    return b == 2.0 ? a * a : ::pow(a, b);
  else if constexpr (is_same<T, bool>)
    return a || !b;
  else {
    if (is_negative(b)) {  // cut towards 0, as in PyTorch
      const bool unit = a == T(1) || (is_negative(a) && a == static_cast<T>(-1));
      return unit ? (b % 2 ? a : T(1)) : T(0);
    }
    T result = 1;
    for (; b != T(0); b = static_cast<T>(b / 2), a = mul(a, a)) {
      if (b % 2) result = mul(result, a);
    }
    return result;
  }
}
template <class T>
__device__ T maximum(T a, T b) {
  return a > b || a != a ? a : b;
}
template <class T>
__device__ T minimum(T a, T b) {
  return a < b || a != a ? a : b;
}
template <class T>
__device__ T relu_grad(T g, T y) {
  return y <= T(0) ? T(0) : g;  // a NaN passes it on
}
template <class T>
__device__ T bitwise_and(T a, T b) {
  return static_cast<T>(a & b);
}
template <class T>
__device__ T bitwise_or(T a, T b) {
  return static_cast<T>(a | b);
}
template <class T>
__device__ T bitwise_xor(T a, T b) {
  return static_cast<T>(a ^ b);
}
template <class T>
__device__ bool within_bits(T count) {
  return !is_negative(count) && count < static_cast<T>(8 * sizeof(T));
}
template <class T>
__device__ T left_shift(T a, T b) {
  return within_bits(b) ? static_cast<T>(static_cast<wrapping<T>>(a) << b) : T(0);
}
template <class T>
__device__ T right_shift(T a, T b) {
  return within_bits(b) ? static_cast<T>(a >> b) : static_cast<T>(is_negative(a) ? -1 : 0);
}
template <class T>
__device__ bool eq(T a, T b) {
  return a == b;
}
template <class T>
__device__ bool ne(T a, T b) {
  return a != b;
}
template <class T>
__device__ bool lt(T a, T b) {
  return a < b;
}
template <class T>
__device__ bool le(T a, T b) {
  return a <= b;
}
template <class T>
__device__ bool gt(T a, T b) {
  return a > b;
}
template <class T>
__device__ bool ge(T a, T b) {
  return a >= b;
}
template <class T>
__device__ bool logical_and(T a, T b) {
  return a != T(0) && b != T(0);
}
template <class T>
__device__ bool logical_or(T a, T b) {
  return a != T(0) || b != T(0);
}

}  // namespace needle::f
