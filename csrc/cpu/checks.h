// checks.h: checks of a kernel's arguments, made where Python calls the kernel.
//
// Kernels index without bounds checks. These checks keep any caller from accessing memory outside
// of its arrays. A View already lies inside its buffer (`view_of`); here its dtype, shape and
// layout are compared with what the kernel will read and write.
#pragma once

#include <cstring>
#include <initializer_list>
#include <string>

#include "ndarray.h"

namespace needle {

enum class Layout {
  Strided,    // any strides
  Rows,       // consecutive elements along the last axis
  Contiguous  // row-major without gaps
};

constexpr bool is_float(DType dtype) { return dtype == DType::Float32 || dtype == DType::Float64; }

[[noreturn]] void refuse(const char* op, const std::string& what);

inline bool has_shape(const View& v, const int64_t* shape, int ndim) {
  return v.ndim == ndim && std::memcmp(v.shape, shape, ndim * sizeof(int64_t)) == 0;
}

bool has_layout(const View& v, Layout layout);

[[noreturn]] void refuse_argument(const char* op, const char* name, const View& got, DType dtype,
                                  const int64_t* shape, int ndim, Layout layout);

// The argument `name` of the kernel `op` must have this dtype, shape and layout.
inline void expect(const char* op, const char* name, const View& v, DType dtype,
                   std::initializer_list<int64_t> shape, Layout layout = Layout::Contiguous) {
  const int ndim = static_cast<int>(shape.size());
  if (v.dtype == dtype && has_shape(v, shape.begin(), ndim) && has_layout(v, layout)) return;
  refuse_argument(op, name, v, dtype, shape.begin(), ndim, layout);
}

// The argument `name` must have the shape and dtype of `other`.
inline void expect_like(const char* op, const char* name, const View& v, const View& other,
                        Layout layout = Layout::Strided) {
  if (v.dtype == other.dtype && has_shape(v, other.shape, other.ndim) && has_layout(v, layout))
    return;
  refuse_argument(op, name, v, other.dtype, other.shape, other.ndim, layout);
}

// The argument `name` must be float32 or float64 and have `ndim` axes.
void expect_floats(const char* op, const char* name, const View& v, int ndim,
                   Layout layout = Layout::Strided);

}  // namespace needle
