// names.h: element-wise operations and reductions by the names that Python gives them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>
#include <string_view>
#include <unordered_map>

#include "ops.h"
#include "released_gil.h"
#include "threads.h"

namespace needle {

namespace nb = nanobind;

#define NEEDLE_UNARY_NAME(name) {#name, UnaryOp::name},
#define NEEDLE_BINARY_NAME(name) {#name, BinaryOp::name},
#define NEEDLE_REDUCE_NAME(name) {#name, ReduceOp::name},
inline const std::unordered_map<std::string_view, UnaryOp> UNARY_OPS{
    NEEDLE_UNARY_OPS(NEEDLE_UNARY_NAME) NEEDLE_PREDICATES(NEEDLE_UNARY_NAME)};
inline const std::unordered_map<std::string_view, BinaryOp> BINARY_OPS{NEEDLE_BINARY_OPS(
    NEEDLE_BINARY_NAME) NEEDLE_BIT_OPS(NEEDLE_BINARY_NAME) NEEDLE_COMPARISONS(NEEDLE_BINARY_NAME)};
inline const std::unordered_map<std::string_view, ReduceOp> REDUCE_OPS{
    NEEDLE_REDUCE_OPS(NEEDLE_REDUCE_NAME)};
#undef NEEDLE_UNARY_NAME
#undef NEEDLE_BINARY_NAME
#undef NEEDLE_REDUCE_NAME

// The operation of that name. Throws ValueError, which says `what` kind it is, if there is none.
template <typename Op>
Op find_op(const std::unordered_map<std::string_view, Op>& ops, nb::handle name, const char* what) {
  Py_ssize_t length = 0;
  const char* text =
      PyUnicode_Check(name.ptr()) ? PyUnicode_AsUTF8AndSize(name.ptr(), &length) : nullptr;
  const auto found = text ? ops.find(std::string_view(text, length)) : ops.end();
  if (found == ops.end()) {
    PyErr_Clear();  // the error for a name that is not UTF-8
    throw nb::value_error(
        (std::string("there is no ") + what + " operation " + nb::cast<std::string>(nb::repr(name)))
            .c_str());
  }
  return found->second;
}

// Releases the GIL during work that is long enough to be worth the switch (some tens of
// microseconds).
template <typename Work>
void run(int64_t elements, const Work& work) {
  if (elements < (1 << 16)) {
    work();
    return;
  }
  const ReleasedGil others_run;
  const FixedThreads threads;
  work();
}

// The product of two sizes of at most MAX_ELEMENTS each, or INT64_MAX if it overflows.
inline int64_t times(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

}  // namespace needle
