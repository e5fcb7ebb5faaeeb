// ops.h: the names of element-wise operations and reductions, in one place.
//
// To add a unary op, add a line here and its function in kernels/functions.h. For a function of the
// C library, add a line in common/library.h instead.
#pragma once

#include "../common/library.h"

namespace needle {

// clang-format off
// The result has the argument's type.
#define NEEDLE_UNARY_OPS(X)                                                              \
  X(neg) X(abs) X(sign) X(exp) X(log) X(log1p) X(expm1) X(sqrt) X(rsqrt) X(reciprocal)   \
  X(square) X(sin) X(cos) X(tanh) X(sigmoid) X(erf) X(relu) X(floor) X(ceil) X(round)     \
  NEEDLE_LIBRARY_FUNCTIONS(X)
// clang-format on
// The result is bool.
#define NEEDLE_PREDICATES(X) X(isnan) X(isfinite) X(logical_not)
#define NEEDLE_BINARY_OPS(X) \
  X(add) X(sub) X(mul) X(div) X(floor_div) X(mod) X(pow) X(maximum) X(minimum) X(relu_grad)
// These take integers and bools only.
#define NEEDLE_BIT_OPS(X) X(bitwise_and) X(bitwise_or) X(bitwise_xor) X(left_shift) X(right_shift)
// The result is bool, or 0 or 1 in the arguments' type.
#define NEEDLE_COMPARISONS(X) X(eq) X(ne) X(lt) X(le) X(gt) X(ge) X(logical_and) X(logical_or)
#define NEEDLE_REDUCE_OPS(X) X(sum) X(prod) X(max) X(min)

#define NEEDLE_ENUMERATOR(name) name,
enum class UnaryOp { NEEDLE_UNARY_OPS(NEEDLE_ENUMERATOR) NEEDLE_PREDICATES(NEEDLE_ENUMERATOR) };
enum class BinaryOp {
  NEEDLE_BINARY_OPS(NEEDLE_ENUMERATOR) NEEDLE_BIT_OPS(NEEDLE_ENUMERATOR)
      NEEDLE_COMPARISONS(NEEDLE_ENUMERATOR)
};
enum class ReduceOp { NEEDLE_REDUCE_OPS(NEEDLE_ENUMERATOR) };
#undef NEEDLE_ENUMERATOR

}  // namespace needle
