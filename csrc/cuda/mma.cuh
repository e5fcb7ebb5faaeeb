// mma.cuh: tensor-core instructions. They multiply tiles of 2-byte numbers, or of floats rounded to
// TF32, and accumulate in float.
//
// A warp holds an operand tile as a Fragment: 16 × 16 2-byte numbers, two per register, or 16 × 8
// floats. It holds 16 × 8 accumulators as 4 floats per lane: lane l has rows l / 4 and l / 4 + 8,
// in each of them columns l % 4 · 2 and l % 4 · 2 + 1 (NVIDIA, "PTX ISA", sections on mma.m16n8k16,
// mma.m16n8k8 and ldmatrix). The instructions need compute capability 8.0 or later. The emulator
// that the tests use has no PTX, so that it computes the same in C++.
#pragma once

#include "common.cuh"

typedef unsigned short uint16_t;

namespace needle {

// ---- numbers of 2 bytes -----------------------------------------------------------------------

// The type of the accumulator for numbers of a stored type.
template <class T>
struct SumOf {
  using type = T;
};
template <>
struct SumOf<float16> {
  using type = float;
};
template <>
struct SumOf<bfloat16> {
  using type = float;
};
template <class T>
using sum_of = typename SumOf<T>::type;

// float and double need no conversion: they are accumulated as they are.
__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }

// Packs two numbers into a register, the first into the lower half.
template <class T>
__device__ uint32_t pack(float low, float high) {
#ifdef NEEDLE_EMULATOR
  return uint32_t(narrow<T>(low)) | uint32_t(narrow<T>(high)) << 16;
#else
  uint32_t both;
  if constexpr (is_same<T, float16>)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#endif
}

// Rounds a float to the 10 mantissa bits of TF32. Ties round away from zero, as in the hardware.
__device__ inline uint32_t to_tf32(uint32_t bits) {
#ifdef NEEDLE_EMULATOR
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
#else
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
#endif
}

// ---- fragments --------------------------------------------------------------------------------

// An operand tile of 16 rows and 32 bytes of depth, distributed over the lanes of a warp. It
// consists of four squares of 8 rows by 16 bytes. In a left operand the squares are ordered by
// depth, then by rows within a depth. A right operand is two blocks of 8 columns, each ordered by
// depth.
struct Fragment {
  uint32_t square[4];
};

template <class T>
constexpr int SQUARE_DEPTH = 16 / sizeof(T);
template <class T>
constexpr int FRAGMENT_DEPTH = 2 * SQUARE_DEPTH<T>;

// Loads a fragment from a tile in shared memory. Square s is at row s % 2 and column s / 2 of the
// squares of the tile, or the other way round if ACROSS. Each square is transposed if TRANSPOSED.
// Floats are rounded to TF32.
template <bool ACROSS, bool TRANSPOSED, class T>
__device__ Fragment load_squares(const T* tile, int stride) {
  constexpr int ROWS = TRANSPOSED ? SQUARE_DEPTH<T> : 8, COLS = TRANSPOSED ? 8 : SQUARE_DEPTH<T>;
  const int lane = threadIdx.x % WARP;
  const auto square = [&](int s) {
    return tile + ROWS * (ACROSS ? s / 2 : s % 2) * stride + COLS * (ACROSS ? s % 2 : s / 2);
  };
  Fragment result;
#ifdef NEEDLE_EMULATOR
  constexpr bool ONE_BY_ONE = true;
#else
  constexpr bool ONE_BY_ONE = TRANSPOSED && sizeof(T) == 4;  // ldmatrix cannot transpose floats
#endif
  if constexpr (ONE_BY_ONE) {
    constexpr int WORD = 4 / sizeof(T);  // numbers per register
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      const int i = lane / 4, j = lane % 4 * WORD;
      const T* first = square(s) + (TRANSPOSED ? j * stride + i : i * stride + j);
      if constexpr (sizeof(T) == 4)
        result.square[s] = __float_as_uint(*first);
      else
        result.square[s] = uint32_t(first[0]) | uint32_t(first[TRANSPOSED ? stride : 1]) << 16;
    }
  } else {
#ifndef NEEDLE_EMULATOR
    const T* row = square(lane / 8) + lane % 8 * stride;
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    if constexpr (TRANSPOSED)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(result.square[0]), "=r"(result.square[1]), "=r"(result.square[2]),
                     "=r"(result.square[3])
                   : "r"(at)
                   : "memory");
    else
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(result.square[0]), "=r"(result.square[1]), "=r"(result.square[2]),
                     "=r"(result.square[3])
                   : "r"(at)
                   : "memory");
#endif
  }
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (uint32_t& number : result.square) number = to_tf32(number);
  }
  return result;
}

// Loads a left operand, stored as (rows, depth).
template <class T>
__device__ Fragment load_left(const T* tile, int stride) {
  return load_squares<false, false>(tile, stride);
}
// Loads a left operand, stored as (depth, rows).
template <class T>
__device__ Fragment load_left_transposed(const T* tile, int stride) {
  return load_squares<true, true>(tile, stride);
}
// Loads a right operand, stored as (depth, columns).
template <class T>
__device__ Fragment load_right(const T* tile, int stride) {
  return load_squares<false, true>(tile, stride);
}
// Loads a right operand, stored as (columns, depth).
template <class T>
__device__ Fragment load_right_transposed(const T* tile, int stride) {
  return load_squares<true, false>(tile, stride);
}

// sums (16 × 8) += a · b', where b' is the 8 columns of b from column 8·half on.
template <class T>
__device__ void multiply_add(float& s0, float& s1, float& s2, float& s3, const Fragment& a,
                             const Fragment& b, int half) {
#ifdef NEEDLE_EMULATOR
  __shared__ uint32_t left[WARP][WARP][4], right[WARP][WARP][2];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  for (int s = 0; s < 4; ++s) left[warp][lane][s] = a.square[s];
  for (int s = 0; s < 2; ++s) right[warp][lane][s] = b.square[2 * half + s];
  __syncwarp();
  const auto number = [](uint32_t word, int k) {
    if constexpr (sizeof(T) == 4)
      return __uint_as_float(word & ~0x1fffu);  // the hardware ignores the other bits
    else
      return widen(T{static_cast<uint16_t>(k % 2 ? word >> 16 : word)});
  };
  constexpr int DEPTH = SQUARE_DEPTH<T>;
  float* const sums[4] = {&s0, &s1, &s2, &s3};
  for (int s = 0; s < 4; ++s) {
    const int row = lane / 4, col = lane % 4 * 2 + s % 2;
    for (int k = 0; k < 2 * DEPTH; ++k) {
      const int from = k % DEPTH * 4 / DEPTH;
      *sums[s] += number(left[warp][row * 4 + from][s / 2 + k / DEPTH * 2], k) *
                  number(right[warp][col * 4 + from][k / DEPTH], k);
    }
  }
  __syncwarp();
#else
  const uint32_t b0 = b.square[2 * half], b1 = b.square[2 * half + 1];
  if constexpr (is_same<T, float16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(s0), "+f"(s1), "+f"(s2), "+f"(s3)
        : "r"(a.square[0]), "r"(a.square[1]), "r"(a.square[2]), "r"(a.square[3]), "r"(b0), "r"(b1));
  else if constexpr (is_same<T, float>)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(s0), "+f"(s1), "+f"(s2), "+f"(s3)
        : "r"(a.square[0]), "r"(a.square[1]), "r"(a.square[2]), "r"(a.square[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(s0), "+f"(s1), "+f"(s2), "+f"(s3)
        : "r"(a.square[0]), "r"(a.square[1]), "r"(a.square[2]), "r"(a.square[3]), "r"(b0), "r"(b1));
#endif
}

// ---- asynchronous copies ----------------------------------------------------------------------

// Starts an asynchronous copy of 16 bytes to shared memory; writes zeros if not `there`. The thread
// that started the copy may read the bytes after `wait_for_copies`, other threads after a further
// barrier.
__device__ inline void copy_async(void* to, const void* from, bool there) {
#ifdef NEEDLE_EMULATOR
  for (int i = 0; i < 16; ++i)
    static_cast<char*>(to)[i] = there ? static_cast<const char*>(from)[i] : 0;
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(there ? 16 : 0)
               : "memory");
#endif
}

__device__ inline void wait_for_copies() {
#if !defined(NEEDLE_EMULATOR) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace needle
