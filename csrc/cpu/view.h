// view.h: an array as kernels see it. No Python, no ownership.
#pragma once

#include <cstdint>

namespace needle {

constexpr int MAX_DIMS = 8;

enum class DType : uint8_t { Float32, Float64, Int32, Int64, UInt8, Bool };
constexpr int DTYPE_COUNT = 6;

constexpr int64_t item_size(DType dtype) {
  constexpr int64_t sizes[DTYPE_COUNT] = {4, 8, 4, 8, 1, 1};
  return sizes[static_cast<int>(dtype)];
}

// `data` points at element (0, …, 0); strides are in elements and may be 0 or negative.
struct View {
  char* data;
  DType dtype;
  int ndim;
  int64_t shape[MAX_DIMS];
  int64_t strides[MAX_DIMS];
};

// A Python number, both ways: kernels take the one that fits their type.
struct Scalar {
  double real;
  int64_t integer;
};

// Runs the statements with T the C++ type of `dtype`.
#define NEEDLE_DISPATCH(dtype, ...) \
  switch (dtype) {                  \
    case DType::Float32: {          \
      using T = float;              \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
    case DType::Float64: {          \
      using T = double;             \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
    case DType::Int32: {            \
      using T = int32_t;            \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
    case DType::Int64: {            \
      using T = int64_t;            \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
    case DType::UInt8: {            \
      using T = uint8_t;            \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
    case DType::Bool: {             \
      using T = bool;               \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
  }

#define NEEDLE_DISPATCH_FLOAT(dtype, ...) \
  if ((dtype) == DType::Float32) {        \
    using T = float;                      \
    __VA_ARGS__;                          \
  } else {                                \
    using T = double;                     \
    __VA_ARGS__;                          \
  }

}  // namespace needle
