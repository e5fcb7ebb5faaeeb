// view.h: an array as kernels see it, without Python and without ownership.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace needle {

// The most axes of an array. Kernels name axes by the bits of an unsigned integer.
constexpr int MAX_DIMS = 32;

// 16-bit floats are a storage format: kernels that move or convert elements take them, all other
// kernels take float32.
enum class float16 : uint16_t {};
enum class bfloat16 : uint16_t {};

// clang-format off
// Every dtype as X(name, element type), in the order of needle.backend_ndarray.dtypes.
#define NEEDLE_DTYPES(X)                                                       \
  X(Bool, bool) X(UInt8, uint8_t) X(Int32, int32_t) X(Int64, int64_t)          \
  X(Float16, float16) X(BFloat16, bfloat16) X(Float32, float) X(Float64, double)
// clang-format on

#define NEEDLE_ENUMERATOR(name, type) name,
enum class DType : uint8_t { NEEDLE_DTYPES(NEEDLE_ENUMERATOR) };
#undef NEEDLE_ENUMERATOR

#define NEEDLE_SIZE(name, type) sizeof(type),
constexpr int64_t ITEM_SIZES[] = {NEEDLE_DTYPES(NEEDLE_SIZE)};
#undef NEEDLE_SIZE
constexpr int DTYPE_COUNT = sizeof(ITEM_SIZES) / sizeof(int64_t);

constexpr int64_t item_size(DType dtype) { return ITEM_SIZES[static_cast<int>(dtype)]; }

// `data` points at element (0, …, 0); strides are in elements and may be 0 or negative.
struct View {
  char* data;
  DType dtype;
  int ndim;
  int64_t shape[MAX_DIMS];
  int64_t strides[MAX_DIMS];
};

// A Python number as a float and as an integer; kernels take the one that fits their type.
struct Scalar {
  double real;
  int64_t integer;
};

[[noreturn]] inline void refuse_dtype() {
  throw std::invalid_argument("a kernel was given numbers of 16 bits; convert them to float32");
}

#define NEEDLE_TYPE_CASE(name, type, ...) \
  case DType::name: {                     \
    using T = type;                       \
    __VA_ARGS__;                          \
    break;                                \
  }
#define NEEDLE_FLOAT_CASES(...)                 \
  NEEDLE_TYPE_CASE(Float32, float, __VA_ARGS__) \
  NEEDLE_TYPE_CASE(Float64, double, __VA_ARGS__)
#define NEEDLE_COMPUTED_CASES(...)              \
  NEEDLE_FLOAT_CASES(__VA_ARGS__)               \
  NEEDLE_TYPE_CASE(Int32, int32_t, __VA_ARGS__) \
  NEEDLE_TYPE_CASE(Int64, int64_t, __VA_ARGS__) \
  NEEDLE_TYPE_CASE(UInt8, uint8_t, __VA_ARGS__) \
  NEEDLE_TYPE_CASE(Bool, bool, __VA_ARGS__)
#define NEEDLE_STORED_CASES(...)                  \
  NEEDLE_TYPE_CASE(Float16, float16, __VA_ARGS__) \
  NEEDLE_TYPE_CASE(BFloat16, bfloat16, __VA_ARGS__)

// Runs the statements with T as the C++ type of `dtype`. Throws for 16-bit floats.
#define NEEDLE_DISPATCH(dtype, ...) \
  switch (dtype) { NEEDLE_COMPUTED_CASES(__VA_ARGS__) default : refuse_dtype(); }

// The same for every dtype.
#define NEEDLE_DISPATCH_STORED(dtype, ...) \
  switch (dtype) { NEEDLE_COMPUTED_CASES(__VA_ARGS__) NEEDLE_STORED_CASES(__VA_ARGS__) }

// The same for float32 and float64. Throws for all other dtypes.
#define NEEDLE_DISPATCH_FLOAT(dtype, ...) \
  switch (dtype) { NEEDLE_FLOAT_CASES(__VA_ARGS__) default : refuse_dtype(); }

}  // namespace needle
