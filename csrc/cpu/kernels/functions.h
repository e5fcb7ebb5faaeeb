// functions.h: the scalar functions of element-wise ops, written so that loops over them vectorize.
//
// Contract: the functions of float are branch-free (the compiler turns the selects into masks),
// except for sin and cos of large numbers. They are right for NaN, infinities and both zeros. For
// every float they are within 4 units in the last place (ulp) of the exact result, sin and cos
// within 2; sigmoid may be 0 where the result is below the smallest normal number. For double they
// use the C library.
// Functions whose code is the same on a GPU are in csrc/common/functions.h.
// Polynomials: S. Moshier, Cephes Mathematical Library (single precision), 1992, unless noted.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "../../common/library.h"
#include "../view.h"

namespace needle::NEEDLE_ISA {

constexpr float INF = std::numeric_limits<float>::infinity();
constexpr float QNAN = std::numeric_limits<float>::quiet_NaN();

// exp(x) = 2^n · exp(r), |r| <= ln 2 / 2. The power of two is applied in two factors, so that
// subnormal results and the overflow to infinity are right.
inline float exp_f(float x) {
  x = x < -104.0f ? -104.0f : x;
  // Adding 1.5 · 2^23 rounds to an integer, in the default rounding mode, and leaves it in the
  // lowest bits. Large x stop at 2^129. That is done on the bits, because the compiler turns a
  // second select of floats into branches with constants. There r is large, and exp(r) only grows.
  const float shifted = x * 1.44269504088896341f + 12582912.0f;
  const int32_t whole = std::min(std::bit_cast<int32_t>(shifted), 0x4b400000 + 129);
  const float n = std::bit_cast<float>(whole) - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // Floats whose exponents are n / 2, rounded down, and the rest. NaN times anything stays NaN.
  const uint32_t bits = static_cast<uint32_t>(whole), one = 0x3f800000u;
  const uint32_t half = (bits << 22 & 0xff800000u) + one, rest = (bits << 23) - (half - 2 * one);
  return p * std::bit_cast<float>(half) * std::bit_cast<float>(rest);
}

// log(x) = e·ln 2 + log(m), m in [√½, √2).
inline float log_f(float x) {
  const bool subnormal = x < 1.17549435e-38f;
  const uint32_t bits = std::bit_cast<uint32_t>(subnormal ? x * 8388608.0f : x);
  float e = static_cast<float>(static_cast<int32_t>((bits >> 23) & 255) - 126);
  e = subnormal ? e - 23.0f : e;
  float m = std::bit_cast<float>((bits & 0x007fffffu) | 0x3f000000u);
  const bool low = m < 0.707106781186547524f;
  e = low ? e - 1.0f : e;
  m = (low ? m + m : m) - 1.0f;
  const float z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float y = p * m * z - e * 2.12194440e-4f - 0.5f * z;
  float result = m + y + e * 0.693359375f;
  result = x == INF ? INF : result;
  result = x == 0.0f ? -INF : result;
  return x >= 0.0f ? result : QNAN;
}

// W. Kahan's correction: with u = 1 + x rounded, log(1 + x) is log(u)·x/(u - 1), because log(u)/(u
// - 1) varies slowly.
inline float log1p_f(float x) {
  const float u = 1.0f + x, d = u - 1.0f;
  const float scaled = log_f(u) * (x / (d == 0.0f ? 1.0f : d));
  const float result = d == 0.0f ? x : scaled;
  return x == INF ? INF : result;
}

// The Taylor series where exp(x) - 1 would suffer cancellation. copysign restores the sign of -0,
// which a sum of zeros loses.
inline float expm1_f(float x) {
  float p = 1.0f / 5040;
  p = p * x + 1.0f / 720;
  p = p * x + 1.0f / 120;
  p = p * x + 1.0f / 24;
  p = p * x + 1.0f / 6;
  p = p * x + 0.5f;
  const float near_zero = p * x * x + x;
  return std::fabs(x) < 0.35f ? std::copysign(near_zero, x) : exp_f(x) - 1.0f;
}

inline float tanh_f(float x) {
  const float size = std::fabs(x);
  const float far = 1.0f - 2.0f / (exp_f(2.0f * size) + 1.0f);
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near_zero = p * z * x + x;
  return std::copysign(size < 0.625f ? near_zero : far, x);
}

// exp(-x) may be infinite if the result is below the smallest normal number; the result is 0 there.
inline float sigmoid_f(float x) { return 1.0f / (1.0f + exp_f(-x)); }

// Near 0 the Taylor series; elsewhere 1 - erfc, with the rational Chebyshev approximation of
// Numerical Recipes (Press et al., 2nd ed., §6.2), whose relative error is below 1.2e-7.
inline float erf_f(float x) {
  const float z = std::fabs(x), q = x * x;
  float p = 1.0f / 9360;
  p = p * q - 1.0f / 1320;
  p = p * q + 1.0f / 216;
  p = p * q - 1.0f / 42;
  p = p * q + 1.0f / 10;
  p = p * q - 1.0f / 3;
  const float near_zero = 1.12837916709551257f * (p * q * x + x);
  const float t = 1.0f / (1.0f + 0.5f * z);
  float c = 0.17087277f;
  c = c * t - 0.82215223f;
  c = c * t + 1.48851587f;
  c = c * t - 1.13520398f;
  c = c * t + 0.27886807f;
  c = c * t - 0.18628806f;
  c = c * t + 0.09678418f;
  c = c * t + 0.37409196f;
  c = c * t + 1.00002368f;
  const float far = 1.0f - t * exp_f(c * t - z * z - 1.26551223f);
  return std::copysign(z < 0.5f ? near_zero : far, x);
}

// sin((n + quarter)·π/2 + r) for |r| <= π/4.
inline float sine_of_parts(double n, double r, int32_t quarter) {
  const int32_t q = static_cast<int32_t>(n) + quarter;
  const float y = static_cast<float>(r), z = y * y;
  const float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * y + y;
  const float c =
      ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z -
      0.5f * z + 1.0f;
  const float value = q & 1 ? c : std::copysign(s, y);  // a sum of zeros loses the sign of -0
  return q & 2 ? -value : value;
}

// For |x| up to this bound, n = round(x·2/π) has at most 20 bits.
constexpr float NEAR = 0x1p20f;

// sin(x + quarter·π/2) for |x| <= NEAR. The reduction modulo π/2 splits π/2 in two parts, such that
// n times the first part is exact (W. Cody and W. Waite, "Software Manual for the Elementary
// Functions", 1980).
inline float sine_near(float x, int32_t quarter) {
  const double wide = static_cast<double>(x);
  const double n = (wide * 0.636619772367581343 + 6755399441055744.0) - 6755399441055744.0;
  const double r = (wide - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
  return sine_of_parts(n, r, quarter);
}

// The first 256 bits of 2/π.
constexpr uint32_t TWO_OVER_PI[] = {0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
                                    0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561};

// The `count` bits of 2/π from bit `first` on, scaled so that bit `first` is worth 1/2.
constexpr double bits_of_two_over_pi(int first, int count) {
  double sum = 0.0, worth = 0.5;
  for (int i = first; i < first + count; ++i, worth *= 0.5)
    if (TWO_OVER_PI[i / 32] >> (31 - i % 32) & 1) sum += worth;
  return sum;
}

// sin(x + quarter·π/2) for |x| > NEAR. |x| = m·2^e with an integer m of 24 bits. The bits of
// 2^e·2/π that are multiples of 4 do not change the sine and are left out. The product of m and the
// next 29 bits is exact, and 53 further bits are enough for every float (M. Payne and R. Hanek,
// "Radian reduction for trigonometric functions", 1983).
inline float sine_far(float x, int32_t quarter) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const int e = static_cast<int>(bits >> 23 & 255) - 150, first = e > 2 ? e - 2 : 0;
  if (e > 104) return QNAN;  // an infinity or a NaN
  const double m = std::ldexp((bits & 0x7fffffu) | 0x800000u, e - first);
  const double high = m * bits_of_two_over_pi(first, 29);
  const double low = std::ldexp(m * bits_of_two_over_pi(first + 29, 53), -29);
  const double n = std::nearbyint(high + low), r = ((high - n) + low) * 1.57079632679489662;
  return x < 0.0f ? sine_of_parts(-n, -r, quarter) : sine_of_parts(n, r, quarter);
}

// sin(x + QUARTER·π/2), within 2 ulp for every float. Loops use `near`, because it vectorizes.
template <int QUARTER>
struct Sine {
  static bool is_near(float x) { return std::fabs(x) <= NEAR; }
  static float near(float x) { return sine_near(x, QUARTER); }
  float operator()(float x) const { return is_near(x) ? near(x) : sine_far(x, QUARTER); }
};

template <typename T>
constexpr bool is_stored = std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>;

inline float widen(bfloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

// The exponent biases of the two formats differ by 112. The product with 2^112 is exact, also for
// subnormal numbers.
inline float widen(float16 x) {
  const uint32_t bits = static_cast<uint32_t>(x), size = (bits & 0x7fff) << 13;
  const uint32_t value = std::bit_cast<uint32_t>(std::bit_cast<float>(size) * 0x1p112f);
  const uint32_t special = size >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity or NaN
  return std::bit_cast<float>(value | special | (bits & 0x8000) << 16);
}

// Rounds to nearest even. A NaN becomes a quiet NaN.
template <typename T>
T narrow(float x);

template <>
inline bfloat16 narrow(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return static_cast<bfloat16>(x == x ? rounded : 0x7fc0u);
}

// Adding a number whose last bit has the weight of the result's last bit rounds to that bit (M.
// Dukhan, FP16, 2017).
template <>
inline float16 narrow(float x) {
  const uint32_t twice = std::bit_cast<uint32_t>(x) << 1, exponent = twice & 0xff000000u;
  const float size = (std::fabs(x) * 0x1p112f) * 0x1p-110f;  // infinite if the result overflows
  const uint32_t bias = exponent < 0x71000000u ? 0x71000000u : exponent;
  const float sum = std::bit_cast<float>((bias >> 1) + 0x07800000u) + size;
  const uint32_t bits = std::bit_cast<uint32_t>(sum);
  const uint32_t finite = (bits >> 13 & 0x7c00u) + (bits & 0x0fffu);
  const uint32_t sign = std::bit_cast<uint32_t>(x) >> 16 & 0x8000u;
  return static_cast<float16>(sign | (x == x ? finite : 0x7e00u));
}

#define NEEDLE_FLOAT_FUNCTION(name, single, general) \
  template <typename T>                              \
  inline T name(T x) {                               \
    if constexpr (std::is_same_v<T, float>)          \
      return single;                                 \
    else                                             \
      return static_cast<T>(general);                \
  }

namespace f {

NEEDLE_FLOAT_FUNCTION(exp, exp_f(x), std::exp(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(log, log_f(x), std::log(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(log1p, log1p_f(x), std::log1p(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(expm1, expm1_f(x), std::expm1(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(tanh, tanh_f(x), std::tanh(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(sigmoid, sigmoid_f(x), 1.0 / (1.0 + std::exp(-static_cast<double>(x))))
NEEDLE_FLOAT_FUNCTION(erf, erf_f(x), std::erf(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(sin, Sine<0>{}(x), std::sin(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(cos, Sine<1>{}(x), std::cos(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(sqrt, std::sqrt(x), std::sqrt(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(rsqrt, 1.0f / std::sqrt(x), 1.0 / std::sqrt(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(reciprocal, 1.0f / x, 1.0 / static_cast<double>(x))
NEEDLE_FLOAT_FUNCTION(floor, std::floor(x), std::floor(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(ceil, std::ceil(x), std::ceil(static_cast<double>(x)))
NEEDLE_FLOAT_FUNCTION(round, std::nearbyint(x), std::nearbyint(static_cast<double>(x)))

// These are as accurate as the C library; loops over them do not vectorize.
#define NEEDLE_LIBRARY_FUNCTION(name) \
  NEEDLE_FLOAT_FUNCTION(name, std::name(x), std::name(static_cast<double>(x)))
NEEDLE_LIBRARY_FUNCTIONS(NEEDLE_LIBRARY_FUNCTION)
#undef NEEDLE_LIBRARY_FUNCTION

template <typename T>
inline T magnitude(T x) {
  return std::fabs(x);
}
template <typename T>
inline T remainder(T a, T b) {
  return std::fmod(a, b);
}
template <typename T>
inline T power(T a, T b) {
  return std::pow(a, b);
}

template <typename A, typename B>
constexpr bool is_same = std::is_same_v<A, B>;
template <typename T>
constexpr bool is_float = std::is_floating_point_v<T>;
template <typename T>
constexpr bool is_signed = std::is_signed_v<T>;

// Integer arithmetic is done in the unsigned type, which wraps around on overflow.
template <typename T>
struct Wrapping {
  using type = T;
};
template <>
struct Wrapping<int32_t> {
  using type = uint32_t;
};
template <>
struct Wrapping<int64_t> {
  using type = uint64_t;
};
template <typename T>
using wrapping = typename Wrapping<T>::type;

}  // namespace f

}  // namespace needle::NEEDLE_ISA

#define NEEDLE_FUNCTIONS needle::NEEDLE_ISA::f
#define NEEDLE_FUNCTION inline
#include "../../common/functions.h"

namespace needle::NEEDLE_ISA {
using f::convert;
}
