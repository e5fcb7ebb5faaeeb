#include "checks.h"

namespace needle {

namespace {

std::string text(const int64_t* shape, int ndim) {
  std::string result = "(";
  for (int axis = 0; axis < ndim; ++axis)
    result += std::to_string(shape[axis]) + (axis + 1 < ndim || ndim == 1 ? "," : "");
  return result + ")";
}

std::string name_of(DType dtype) {
  return nb::str(nb::handle(registered.dtypes[static_cast<int>(dtype)])).c_str();
}

const char* name_of(Layout layout) {
  constexpr const char* names[] = {"", " with consecutive elements in its rows",
                                   " in row-major order"};
  return names[static_cast<int>(layout)];
}

std::string text(const View& v) {
  return name_of(v.dtype) + " " + text(v.shape, v.ndim) + " with strides " +
         text(v.strides, v.ndim);
}

}  // namespace

void refuse(const char* op, const std::string& what) {
  throw nb::value_error((std::string("[") + op + "] " + what).c_str());
}

bool has_layout(const View& v, Layout layout) {
  if (layout == Layout::Strided || size_of(v) == 0) return true;
  int64_t expected = 1;
  for (int axis = v.ndim; axis-- > 0; expected *= v.shape[axis]) {
    // The stride of an axis of length 1 is never used.
    if (v.shape[axis] != 1 && v.strides[axis] != expected) return false;
    if (layout == Layout::Rows) return true;
  }
  return true;
}

void refuse_argument(const char* op, const char* name, const View& got, DType dtype,
                     const int64_t* shape, int ndim, Layout layout) {
  refuse(op, std::string(name) + " must be " + name_of(dtype) + " " + text(shape, ndim) +
                 name_of(layout) + ", got " + text(got));
}

void expect_floats(const char* op, const char* name, const View& v, int ndim, Layout layout) {
  if (is_float(v.dtype) && v.ndim == ndim && has_layout(v, layout)) return;
  refuse(op, std::string(name) + " must be float32 or float64 of " + std::to_string(ndim) +
                 " axes" + name_of(layout) + ", got " + text(v));
}

}  // namespace needle
