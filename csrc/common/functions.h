// functions.h: the scalar functions of element-wise ops that every device compiles from the same
// code.
//
// Contract: integers wrap around on overflow, as in NumPy. Nothing traps: a division by 0 gives 0
// for integers and the IEEE result for floats. NaN, infinities and both zeros are handled right.
// Each device includes this file after it has defined, for its own compiler:
// - NEEDLE_FUNCTIONS, the namespace, and NEEDLE_FUNCTION, the qualifiers of each function;
// - is_same, is_float, is_signed, is_stored, and `wrapping<T>`, the type in which T wraps around;
// - widen and narrow, the conversions of 16-bit floats to and from float;
// - for floats: floor, magnitude (|x|), remainder (C's fmod) and power.
#pragma once

namespace NEEDLE_FUNCTIONS {

// A cast between element types. 16-bit floats are converted through float.
template <class To, class From>
NEEDLE_FUNCTION To convert(From x) {
  if constexpr (is_same<To, From>)
    return x;
  else if constexpr (is_stored<From>)
    return convert<To>(widen(x));
  else if constexpr (is_stored<To>)
    return narrow<To>(convert<float>(x));
  else if constexpr (is_same<To, bool>)
    return x != From(0);
  else if constexpr (is_same<From, bool>)
    return x ? To(1) : To(0);  // vectorizes; a cast would go through bytes
  else if constexpr (is_float<From> && !is_float<To>) {
    // Converted through int64, because the conversion of a float outside of the target's range is
    // undefined. A value that int64 cannot hold, NaN included, becomes the smallest int64.
    const bool fits = x >= From(-9223372036854775808.0) && x < From(9223372036854775808.0);
    return static_cast<To>(fits ? static_cast<int64_t>(x) : -9223372036854775807 - 1);
  } else
    return static_cast<To>(x);
}

template <class T>
NEEDLE_FUNCTION T neg(T x) {
  if constexpr (is_float<T>)
    return -x;
  else
    return static_cast<T>(wrapping<T>(0) - wrapping<T>(x));
}
template <class T>
NEEDLE_FUNCTION T abs(T x) {
  if constexpr (is_float<T>)
    return magnitude(x);
  else if constexpr (is_signed<T>)
    return x < T(0) ? neg(x) : x;
  else
    return x;
}
template <class T>
NEEDLE_FUNCTION T sign(T x) {
  if constexpr (is_float<T>)
    return x > T(0) ? T(1) : x < T(0) ? T(-1) : x;
  else if constexpr (is_signed<T>)
    return static_cast<T>((x > T(0)) - (x < T(0)));
  else
    return static_cast<T>(x != T(0));
}
template <class T>
NEEDLE_FUNCTION T square(T x) {
  return static_cast<T>(wrapping<T>(x) * wrapping<T>(x));
}
template <class T>
NEEDLE_FUNCTION T relu(T x) {
  return x < T(0) ? T(0) : x;  // keeps NaN
}
template <class T>
NEEDLE_FUNCTION bool isnan(T x) {
  return x != x;
}
template <class T>
NEEDLE_FUNCTION bool isfinite(T x) {
  return x - x == T(0);
}
template <class T>
NEEDLE_FUNCTION bool logical_not(T x) {
  return x == T(0);
}

template <class T>
NEEDLE_FUNCTION T add(T a, T b) {
  return static_cast<T>(wrapping<T>(a) + wrapping<T>(b));
}
template <class T>
NEEDLE_FUNCTION T sub(T a, T b) {
  return static_cast<T>(wrapping<T>(a) - wrapping<T>(b));
}
template <class T>
NEEDLE_FUNCTION T mul(T a, T b) {
  return static_cast<T>(wrapping<T>(a) * wrapping<T>(b));
}

// The integer quotient, truncated. It is 0 for a division by 0, and wraps around for the one
// quotient that overflows.
template <class T>
NEEDLE_FUNCTION T quotient(T a, T b) {
  if (b == T(0)) return T(0);
  if constexpr (is_signed<T>) {
    if (b == T(-1)) return neg(a);
  }
  return static_cast<T>(a / b);
}
template <class T>
NEEDLE_FUNCTION T div(T a, T b) {
  if constexpr (is_float<T>)
    return a / b;
  else
    return quotient(a, b);
}
template <class T>
NEEDLE_FUNCTION bool is_negative(T x) {
  if constexpr (is_signed<T>) return x < T(0);
  return false;
}
template <class T>
NEEDLE_FUNCTION T mod(T a, T b) {  // has the sign of b, as in Python
  if constexpr (is_float<T>) {
    const T r = remainder(a, b);
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
NEEDLE_FUNCTION T floor_div(T a, T b) {
  if constexpr (is_float<T>) {
    if (b == T(0)) return a / b;
    const T r = remainder(a, b);
    T q = (a - r) / b;  // an integer, up to a rounding error
    if (r != T(0) && (r < T(0)) != (b < T(0))) q -= T(1);
    return q == T(0) ? a / b * T(0) : floor(q + T(0.5));
  } else {
    const T q = quotient(a, b);
    const bool inexact = b != T(0) && static_cast<T>(wrapping<T>(q) * wrapping<T>(b)) != a;
    return inexact && is_negative(a) != is_negative(b) ? static_cast<T>(q - 1) : q;
  }
}
// A negative integer power is truncated towards 0, and 0 to a negative power is 0, as in PyTorch.
template <class T>
NEEDLE_FUNCTION T pow(T a, T b) {
  if constexpr (is_float<T>)
    return power(a, b);
  else if constexpr (is_same<T, bool>)
    return a || !b;
  else {
    if (is_negative(b)) {
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
NEEDLE_FUNCTION T maximum(T a, T b) {
  const T larger = a > b ? a : b;  // of equals the second, as in NumPy: it may be the other zero
  return a != a ? a : larger;
}
template <class T>
NEEDLE_FUNCTION T minimum(T a, T b) {
  const T smaller = a < b ? a : b;
  return a != a ? a : smaller;
}
template <class T>
NEEDLE_FUNCTION T relu_grad(T g, T y) {
  return y <= T(0) ? T(0) : g;  // a NaN in y passes g on
}
template <class T>
NEEDLE_FUNCTION T bitwise_and(T a, T b) {
  return static_cast<T>(a & b);
}
template <class T>
NEEDLE_FUNCTION T bitwise_or(T a, T b) {
  return static_cast<T>(a | b);
}
template <class T>
NEEDLE_FUNCTION T bitwise_xor(T a, T b) {
  return static_cast<T>(a ^ b);
}
// A shift by the number of bits or more, or by a negative number, leaves only the sign, as in
// NumPy.
template <class T>
NEEDLE_FUNCTION bool within_bits(T count) {
  return !is_negative(count) && count < static_cast<T>(8 * sizeof(T));
}
template <class T>
NEEDLE_FUNCTION T left_shift(T a, T b) {
  return within_bits(b) ? static_cast<T>(static_cast<wrapping<T>>(a) << b) : T(0);
}
template <class T>
NEEDLE_FUNCTION T right_shift(T a, T b) {
  return within_bits(b) ? static_cast<T>(a >> b) : static_cast<T>(is_negative(a) ? -1 : 0);
}
template <class T>
NEEDLE_FUNCTION bool eq(T a, T b) {
  return a == b;
}
template <class T>
NEEDLE_FUNCTION bool ne(T a, T b) {
  return a != b;
}
template <class T>
NEEDLE_FUNCTION bool lt(T a, T b) {
  return a < b;
}
template <class T>
NEEDLE_FUNCTION bool le(T a, T b) {
  return a <= b;
}
template <class T>
NEEDLE_FUNCTION bool gt(T a, T b) {
  return a > b;
}
template <class T>
NEEDLE_FUNCTION bool ge(T a, T b) {
  return a >= b;
}
template <class T>
NEEDLE_FUNCTION bool logical_and(T a, T b) {
  return (a != T(0)) & (b != T(0));
}
template <class T>
NEEDLE_FUNCTION bool logical_or(T a, T b) {
  return (a != T(0)) | (b != T(0));
}

}  // namespace NEEDLE_FUNCTIONS
