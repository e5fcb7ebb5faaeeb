// view.h: an array as kernels see it. No Python, no ownership.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace needle {

constexpr int MAX_DIMS = 8;

enum class DType : uint8_t { Float32, Float64, Int32, Int64, UInt8, Bool, Float16, BFloat16 };
constexpr int DTYPE_COUNT = 8;

// Numbers of 16 bits are stored, never computed with: kernels that move or convert elements take
// them, all others take float32.
enum class float16 : uint16_t {};
enum class bfloat16 : uint16_t {};

constexpr int64_t item_size(DType dtype) {
  constexpr int64_t sizes[DTYPE_COUNT] = {4, 8, 4, 8, 1, 1, 2, 2};
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

[[noreturn]] inline void refuse_dtype() {
  throw std::invalid_argument("a kernel was given numbers of 16 bits; convert them to float32");
}

// Runs the statements with T the C++ type of `dtype`. Throws for numbers of 16 bits.
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
    default:                        \
      refuse_dtype();               \
  }

// The same for every dtype.
#define NEEDLE_DISPATCH_STORED(dtype, ...) \
  if ((dtype) == DType::Float16) {         \
    using T = float16;                     \
    __VA_ARGS__;                           \
  } else if ((dtype) == DType::BFloat16) { \
    using T = bfloat16;                    \
    __VA_ARGS__;                           \
  } else                                   \
    NEEDLE_DISPATCH(dtype, __VA_ARGS__)

#define NEEDLE_DISPATCH_FLOAT(dtype, ...) \
  if ((dtype) == DType::Float32) {        \
    using T = float;                      \
    __VA_ARGS__;                          \
  } else if ((dtype) == DType::Float64) { \
    using T = double;                     \
    __VA_ARGS__;                          \
  } else                                  \
    refuse_dtype();

}  // namespace needle
