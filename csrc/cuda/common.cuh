// common.cuh: the types and device functions that all kernels share. NVRTC compiles the sources at
// run time for the GPU of the machine, so that nothing here may need a header of the CUDA toolkit.
//
// A kernel takes pointers, shapes, and strides in elements, and knows nothing of graphs.
// Terms: a warp is 32 lanes, and each lane is a thread. Several warps form a thread block, which
// "block" alone means too.
#pragma once

typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef unsigned char uint8_t;

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(16) T name[]
#endif

namespace needle {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// A compile-time integer, passed as a function argument.
template <int N>
struct Number {
  static constexpr int value = N;
};

template <class A, class B>
constexpr bool is_same = false;
template <class A>
constexpr bool is_same<A, A> = true;

// The 16-bit types are storage formats: kernels convert them to float before any arithmetic, as in
// csrc/cpu/view.h. The conversions are the same as those of csrc/cpu/kernels/functions.h.
enum class float16 : unsigned short {};
enum class bfloat16 : unsigned short {};
template <class T>
constexpr bool is_stored = is_same<T, float16> || is_same<T, bfloat16>;

__device__ inline float widen(bfloat16 x) {
  return __int_as_float(static_cast<int>(static_cast<unsigned>(x) << 16));
}
__device__ inline float widen(float16 x) {
#ifdef NEEDLE_EMULATOR
  const unsigned bits = static_cast<unsigned>(x), size = (bits & 0x7fffu) << 13;
  const unsigned value = __float_as_int(__int_as_float(static_cast<int>(size)) * 0x1p112f);
  const unsigned special = size >= 0x0f800000u ? 0x7f800000u : 0u;
  return __int_as_float(static_cast<int>(value | special | (bits & 0x8000u) << 16));
#else
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(x)));
  return value;
#endif
}
// Rounds to nearest, ties to even.
__device__ inline float16 to_float16(float x) {
#ifdef NEEDLE_EMULATOR
  const unsigned bits = __float_as_int(x), exponent = bits << 1 & 0xff000000u;
  const float size = ((x < 0.0f ? -x : x) * 0x1p112f) * 0x1p-110f;
  const unsigned bias = exponent < 0x71000000u ? 0x71000000u : exponent;
  const unsigned sum =
      __float_as_int(__int_as_float(static_cast<int>((bias >> 1) + 0x07800000u)) + size);
  const unsigned finite = (sum >> 13 & 0x7c00u) + (sum & 0x0fffu);
  return static_cast<float16>((bits >> 16 & 0x8000u) | (x == x ? finite : 0x7e00u));
#else
  unsigned short stored;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(stored) : "f"(x));
  return static_cast<float16>(stored);
#endif
}
__device__ inline bfloat16 to_bfloat16(float x) {
#if defined(NEEDLE_EMULATOR) || __CUDA_ARCH__ < 800
  const unsigned bits = __float_as_int(x), rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return static_cast<bfloat16>(x == x ? rounded : 0x7fc0u);
#else
  unsigned short stored;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(stored) : "f"(x));
  return static_cast<bfloat16>(stored);
#endif
}
// Converts a result to the type in which it is stored.
template <class T, class Number>
__device__ T narrow(Number x) {
  if constexpr (is_same<T, float16>)
    return to_float16(x);
  else if constexpr (is_same<T, bfloat16>)
    return to_bfloat16(x);
  else
    return x;
}

template <class T>
constexpr bool is_float = is_same<T, float> || is_same<T, double>;
template <class T>
constexpr bool is_signed = T(-1) < T(0);
template <>
inline constexpr bool is_signed<bool> = false;

// The type for arithmetic on T. Signed integers use their unsigned type, so that they wrap around
// on overflow as in NumPy. All other types use themselves.
template <class T>
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
template <class T>
using wrapping = typename Wrapping<T>::type;

// A Python number, passed as a kernel parameter.
struct Scalar {
  double real;
  int64_t integer;

  template <class T>
  __device__ T as() const {
    if constexpr (is_stored<T>)
      return narrow<T>(static_cast<float>(real));
    else if constexpr (is_float<T>)
      return static_cast<T>(real);
    else if constexpr (is_same<T, bool>)
      return real != 0;
    else
      return static_cast<T>(integer);
  }
};

// ---- arrays -----------------------------------------------------------------------------------

template <int N>
struct Shape {
  int64_t n[N];
};

// An array with N axes. An axis with stride 0 is broadcast.
template <class T, int N>
struct Array {
  T* data;
  int64_t stride[N];

  template <class Index>
  __device__ T& at(const Index (&index)[N]) const {
    int64_t offset = 0;
#pragma unroll
    for (int axis = 0; axis < N; ++axis) offset += index[axis] * stride[axis];
    return data[offset];
  }
};

// The indices of element `i` in row-major order. Index has 32 bits where these are enough, because
// 64-bit integer division is slow on a GPU.
template <class Index, int N>
__device__ void unravel(Index i, const Shape<N>& shape, Index (&index)[N]) {
#pragma unroll
  for (int axis = N - 1; axis > 0; --axis) {
    const Index n = static_cast<Index>(shape.n[axis]), rest = i / n;
    index[axis] = i - rest * n;
    i = rest;
  }
  index[0] = i;
}

// W elements, aligned so that a single vector instruction loads or stores up to 16 bytes of them.
template <class T, int W>
struct alignas(sizeof(T) * W) Pack {
  T item[W];
};

// ---- warps and blocks -------------------------------------------------------------------------

// Reduces a value with `combine` over each group of LANES neighbouring lanes of a warp. All lanes
// of the group get the result. The order is fixed, so that results are the same from run to run.
template <int LANES, class T, class Combine>
__device__ T over_lanes(T value, Combine combine) {
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) {
    value = combine(value, static_cast<T>(__shfl_xor_sync(ALL_LANES, +value, step)));
  }
  return value;
}

// Reduces a value with `combine` over a thread block of whole warps; all threads get the result.
// `identity` is the identity element of `combine`.
template <class T, class Combine>
__device__ T over_block(T value, T identity, Combine combine) {
  __shared__ T parts[WARP];
  value = over_lanes<WARP>(value, combine);
  const int warps = blockDim.x / WARP, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  if (warps == 1) return value;
  __syncthreads();  // wait until every thread has read the parts of an earlier call
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  return over_lanes<WARP>(lane < warps ? parts[lane] : identity, combine);
}

}  // namespace needle
