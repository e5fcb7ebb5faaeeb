// elementwise.h: fill, copy, unary, binary, select.
//
// Contract: operands have the shape of `out` (broadcasting is stride 0); `out` aliases none of
// them. Bound: memory bandwidth, or the polynomial for exp and similar functions. The inner runs
// are plain loops that the compiler vectorizes: one for contiguous operands, one for each operand
// that may be constant along the run (stride 0), and one for any strides.
#pragma once

#include <algorithm>

#include "../kernels.h"
#include "functions.h"
#include "loops.h"

namespace needle::NEEDLE_ISA {

constexpr int64_t CHEAP = 1, FUNCTION = 8;  // costs of one element, for `for_each_run`

template <typename T>
T scalar_as(Scalar value) {
  if constexpr (is_stored<T>)
    return convert<T>(value.real);
  else if constexpr (std::is_floating_point_v<T>)
    return static_cast<T>(value.real);
  else if constexpr (std::is_same_v<T, bool>)
    return value.real != 0;
  else
    return static_cast<T>(value.integer);
}

inline void fill(const View& out, Scalar value) {
  const View* views[] = {&out};
  const Nest<1> nest = make_nest<1>(views);
  NEEDLE_DISPATCH_STORED(out.dtype, {
    const T v = scalar_as<T>(value);
    const int64_t step = nest.strides[0][nest.ndim - 1];
    for_each_run<1>(nest, CHEAP, [&](char* const* at, int64_t n) {
      if (step == sizeof(T)) {
        T* p = reinterpret_cast<T*>(at[0]);
        for (int64_t i = 0; i < n; ++i) p[i] = v;
      } else {
        for (int64_t i = 0; i < n; ++i) *reinterpret_cast<T*>(at[0] + i * step) = v;
      }
    });
  })
}

// ---- one operand ------------------------------------------------------------------------------

// An inner run: operand k begins at `at[k]`, and its elements are `step[k]` bytes apart. Only this
// function is compiled for every op and dtype; the traversal around it is one function.
using Run = void (*)(char* const* at, const int64_t* step, int64_t n);

template <int N>
void walk(const View* const (&views)[N], int64_t cost, Run run) {
  const Nest<N> nest = make_nest<N>(views);
  int64_t step[N];
  for (int k = 0; k < N; ++k) step[k] = nest.strides[k][nest.ndim - 1];
  for_each_run<N>(nest, cost, [&](char* const* at, int64_t n) { run(at, step, n); });
}

// For functions that have a faster form, `near`, which is valid for nearly all numbers. A block of
// numbers is computed with `near` in a loop that vectorizes. It is computed again with the general
// form if `near` is not valid for one of its numbers.
template <typename X, typename Out, typename Function>
void map_near(const X* __restrict p, Out* __restrict o, int64_t n) {
  constexpr int64_t BLOCK = 256;
  for (; n > 0; n -= BLOCK, p += BLOCK, o += BLOCK) {
    const int64_t count = std::min(n, BLOCK);
    int far = 0;
    for (int64_t i = 0; i < count; ++i) {
      o[i] = Function::near(p[i]);
      far |= !Function::is_near(p[i]);
    }
    for (int64_t i = 0; far && i < count; ++i) o[i] = Function{}(p[i]);
  }
}

template <typename X, typename Out, typename Function>
void map_run(char* const* at, const int64_t* step, int64_t n) {
  constexpr Function function{};
  if constexpr (requires { Function::near(X{}); }) {
    if (step[0] == sizeof(Out) && step[1] == sizeof(X)) {
      map_near<X, Out, Function>(reinterpret_cast<const X*>(at[1]), reinterpret_cast<Out*>(at[0]),
                                 n);
      return;
    }
  }
  if (step[0] == sizeof(Out) && step[1] == sizeof(X)) {
    Out* __restrict o = reinterpret_cast<Out*>(at[0]);
    const X* __restrict p = reinterpret_cast<const X*>(at[1]);
    for (int64_t i = 0; i < n; ++i) o[i] = function(p[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      *reinterpret_cast<Out*>(at[0] + i * step[0]) =
          function(*reinterpret_cast<const X*>(at[1] + i * step[1]));
    }
  }
}

template <typename X, typename Out, typename Function>
void map(const View& x, const View& out, int64_t cost, const Function&) {
  const View* views[] = {&out, &x};
  walk<2>(views, cost, map_run<X, Out, Function>);
}

// A transposing copy reads along the rows of one operand and writes across the rows of the other.
// In blocks, the cache lines of both stay in L1.
template <typename T>
void copy_transposed(const T* x, int64_t x_step, T* out, int64_t out_step, int64_t rows,
                     int64_t cols) {
  constexpr int64_t BLOCK = 16;
  parallel_range((rows + BLOCK - 1) / BLOCK, BLOCK * cols, [&](int64_t begin, int64_t end) {
    for (int64_t i0 = begin * BLOCK; i0 < std::min(end * BLOCK, rows); i0 += BLOCK) {
      const int64_t i1 = std::min(i0 + BLOCK, rows);
      for (int64_t j0 = 0; j0 < cols; j0 += BLOCK) {
        const int64_t j1 = std::min(j0 + BLOCK, cols);
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t j = j0; j < j1; ++j) out[i * out_step + j] = x[j * x_step + i];
        }
      }
    }
  });
}

template <typename T>
bool copy_as_transpose(const View& x, const View& out) {
  const View* views[] = {&out, &x};
  const Nest<2> nest = make_nest<2>(views);
  if (nest.ndim != 2 || nest.size < 256 || nest.strides[0][1] != sizeof(T) ||
      nest.strides[1][0] != sizeof(T)) {
    return false;
  }
  const int64_t item = sizeof(T);
  copy_transposed(reinterpret_cast<const T*>(x.data), nest.strides[1][1] / item,
                  reinterpret_cast<T*>(out.data), nest.strides[0][0] / item, nest.shape[0],
                  nest.shape[1]);
  return true;
}

template <typename From>
void copy_from(const View& x, const View& out) {
  NEEDLE_DISPATCH_STORED(out.dtype, {
    if constexpr (std::is_same_v<From, T>) {
      if (copy_as_transpose<T>(x, out)) return;
    }
    map<From, T>(x, out, CHEAP, [](From v) { return convert<T>(v); });
  })
}

inline void copy(const View& x, const View& out) {
  NEEDLE_DISPATCH_STORED(x.dtype, copy_from<T>(x, out))
}

constexpr int64_t unary_cost(UnaryOp op) {
  switch (op) {
    case UnaryOp::neg:
    case UnaryOp::abs:
    case UnaryOp::relu:
    case UnaryOp::square:
      return CHEAP;
    default:
      return FUNCTION;
  }
}

template <typename T>
void unary_as(UnaryOp op, const View& x, const View& out) {
  const int64_t cost = unary_cost(op);
  switch (op) {
#define NEEDLE_CASE(name)                                       \
  case UnaryOp::name:                                           \
    map<T, T>(x, out, cost, [](T v) { return f::name<T>(v); }); \
    break;
#define NEEDLE_PREDICATE_CASE(name)                                \
  case UnaryOp::name:                                              \
    map<T, bool>(x, out, cost, [](T v) { return f::name<T>(v); }); \
    break;
    NEEDLE_UNARY_OPS(NEEDLE_CASE)
    NEEDLE_PREDICATES(NEEDLE_PREDICATE_CASE)
#undef NEEDLE_CASE
#undef NEEDLE_PREDICATE_CASE
  }
}

inline void unary(UnaryOp op, const View& x, const View& out) {
  if (x.dtype == DType::Float32 && op == UnaryOp::sin)
    return map<float, float>(x, out, FUNCTION, Sine<0>{});
  if (x.dtype == DType::Float32 && op == UnaryOp::cos)
    return map<float, float>(x, out, FUNCTION, Sine<1>{});
  NEEDLE_DISPATCH(x.dtype, unary_as<T>(op, x, out))
}

// ---- two operands -----------------------------------------------------------------------------

template <typename T, typename Out, typename Function>
void zip_run(char* const* at, const int64_t* step, int64_t n) {
  constexpr Function function{};
  constexpr int64_t item = sizeof(T);
  Out* __restrict o = reinterpret_cast<Out*>(at[0]);
  const T* __restrict p = reinterpret_cast<const T*>(at[1]);
  const T* __restrict q = reinterpret_cast<const T*>(at[2]);
  const bool packed = step[0] == sizeof(Out);
  if (packed && step[1] == item && step[2] == item) {
    for (int64_t i = 0; i < n; ++i) o[i] = function(p[i], q[i]);
  } else if (packed && step[1] == item && step[2] == 0) {
    const T y = *q;
    for (int64_t i = 0; i < n; ++i) o[i] = function(p[i], y);
  } else if (packed && step[1] == 0 && step[2] == item) {
    const T y = *p;
    for (int64_t i = 0; i < n; ++i) o[i] = function(y, q[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      *reinterpret_cast<Out*>(at[0] + i * step[0]) =
          function(*reinterpret_cast<const T*>(at[1] + i * step[1]),
                   *reinterpret_cast<const T*>(at[2] + i * step[2]));
    }
  }
}

template <typename T, typename Out, typename Function>
void zip(const View& a, const View& b, const View& out, int64_t cost, const Function&) {
  const View* views[] = {&out, &a, &b};
  walk<3>(views, cost, zip_run<T, Out, Function>);
}

constexpr int64_t binary_cost(BinaryOp op) {
  return op == BinaryOp::pow || op == BinaryOp::mod || op == BinaryOp::floor_div ? FUNCTION : CHEAP;
}

template <typename T>
void binary_as(BinaryOp op, const View& a, const View& b, const View& out) {
  const int64_t cost = binary_cost(op);
  switch (op) {
#define NEEDLE_CASE(name)                                                  \
  case BinaryOp::name:                                                     \
    zip<T, T>(a, b, out, cost, [](T x, T y) { return f::name<T>(x, y); }); \
    break;
#define NEEDLE_COMPARISON_CASE(name)                                                         \
  case BinaryOp::name:                                                                       \
    if (out.dtype == DType::Bool)                                                            \
      zip<T, bool>(a, b, out, cost, [](T x, T y) { return f::name<T>(x, y); });              \
    else                                                                                     \
      zip<T, T>(a, b, out, cost, [](T x, T y) { return static_cast<T>(f::name<T>(x, y)); }); \
    break;
#define NEEDLE_BIT_CASE(name)                                                \
  case BinaryOp::name:                                                       \
    if constexpr (std::is_integral_v<T>)                                     \
      zip<T, T>(a, b, out, cost, [](T x, T y) { return f::name<T>(x, y); }); \
    else                                                                     \
      throw std::invalid_argument("[" #name "] needs integers or bools");    \
    break;
    NEEDLE_BINARY_OPS(NEEDLE_CASE)
    NEEDLE_BIT_OPS(NEEDLE_BIT_CASE)
    NEEDLE_COMPARISONS(NEEDLE_COMPARISON_CASE)
#undef NEEDLE_CASE
#undef NEEDLE_BIT_CASE
#undef NEEDLE_COMPARISON_CASE
  }
}

inline void binary(BinaryOp op, const View& a, const View& b, const View& out) {
  NEEDLE_DISPATCH(a.dtype, binary_as<T>(op, a, b, out))
}

// x ** 2 and similar powers are computed as products, without a call of pow. Returns false if the
// exponent is not one of them.
template <typename T>
bool common_power(const View& x, T exponent, const View& out) {
  if (exponent == T(2)) {
    map<T, T>(x, out, CHEAP, [](T v) { return f::square<T>(v); });
  } else if (exponent == T(3)) {
    map<T, T>(x, out, CHEAP, [](T v) { return f::mul<T>(v, f::square<T>(v)); });
  } else if (exponent == T(1)) {
    map<T, T>(x, out, CHEAP, [](T v) { return v; });
  } else {
    if constexpr (std::is_floating_point_v<T>) {
      if (exponent == T(0.5)) {
        map<T, T>(x, out, FUNCTION, [](T v) { return f::sqrt<T>(v); });
        return true;
      }
    }
    return false;
  }
  return true;
}

inline void binary_scalar(BinaryOp op, const View& x, Scalar y, const View& out, bool reverse) {
  // The scalar becomes an array with strides 0.
  View constant = x;
  NEEDLE_DISPATCH(x.dtype, {
    T value = scalar_as<T>(y);
    if (op == BinaryOp::pow && !reverse && common_power<T>(x, value, out)) return;
    constant.data = reinterpret_cast<char*>(&value);
    for (int axis = 0; axis < x.ndim; ++axis) constant.strides[axis] = 0;
    reverse ? binary(op, constant, x, out) : binary(op, x, constant, out);
  })
}

template <typename T>
void where_run(char* const* at, const int64_t* step, int64_t n) {
  constexpr int64_t item = sizeof(T);
  T* __restrict o = reinterpret_cast<T*>(at[0]);
  const uint8_t* __restrict c = reinterpret_cast<const uint8_t*>(at[1]);
  const T* __restrict p = reinterpret_cast<const T*>(at[2]);
  const T* __restrict q = reinterpret_cast<const T*>(at[3]);
  const bool packed = step[0] == item && step[1] == 1;
  if (packed && step[2] == item && step[3] == item) {
    for (int64_t i = 0; i < n; ++i) o[i] = c[i] ? p[i] : q[i];
    return;
  }
  if (packed && step[2] == item && step[3] == 0) {
    const T y = *q;
    for (int64_t i = 0; i < n; ++i) o[i] = c[i] ? p[i] : y;
    return;
  }
  if (packed && step[2] == 0 && step[3] == item) {
    const T y = *p;
    for (int64_t i = 0; i < n; ++i) o[i] = c[i] ? y : q[i];
    return;
  }
  if (step[0] == item && step[1] == 0) {  // one condition for the whole run
    const T* chosen = *c ? p : q;
    const int64_t s = *c ? step[2] : step[3];
    if (s == item)
      std::copy_n(chosen, n, o);
    else if (s == 0)
      std::fill_n(o, n, *chosen);
    else
      for (int64_t i = 0; i < n; ++i)
        o[i] = *reinterpret_cast<const T*>(reinterpret_cast<const char*>(chosen) + i * s);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const bool chosen = *reinterpret_cast<const uint8_t*>(at[1] + i * step[1]);
    *reinterpret_cast<T*>(at[0] + i * step[0]) =
        *reinterpret_cast<const T*>(chosen ? at[2] + i * step[2] : at[3] + i * step[3]);
  }
}

inline void where(const View& cond, const View& a, const View& b, const View& out) {
  const View* views[] = {&out, &cond, &a, &b};
  NEEDLE_DISPATCH_STORED(out.dtype, walk<4>(views, CHEAP, where_run<T>))
}

}  // namespace needle::NEEDLE_ISA
