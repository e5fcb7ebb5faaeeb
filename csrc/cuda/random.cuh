// random.cuh: a counter-based random number generator, the same as in
// src/needle/backend_ndarray/philox.py.
//
// Contract: seed and offset are read from global memory, so that a captured graph can advance the
// offset; `out` is contiguous.
//
// Idea: a thread makes 16 bytes of numbers from one block of the generator, which is the output for
// one counter. The numbers depend only on the seed, the offset and the position in `out`, not on
// the size of the grid.
//
// Bound: memory bandwidth; a block of the generator takes 20 multiplications of 32 × 32 bits.
#pragma once

#include "functions.cuh"

namespace needle {

struct Words {
  uint32_t word[4];
};

// The output of Philox4x32-10 for the counter (block, 0) (Salmon, Moraes, Dror and Shaw, "Parallel
// random numbers: as easy as 1, 2, 3", SC 2011).
__device__ inline Words philox(uint64_t block, uint64_t seed) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t left = uint64_t(0xD2511F53u) * c0, right = uint64_t(0xCD9E8D57u) * c2;
    c0 = static_cast<uint32_t>(right >> 32) ^ c1 ^ k0, c1 = static_cast<uint32_t>(right);
    c2 = static_cast<uint32_t>(left >> 32) ^ c3 ^ k1, c3 = static_cast<uint32_t>(left);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The parts that depend on the floating type: how a block is split into integers, and the powers of
// two that scale them.
template <class T>
struct Draw;
template <>
struct Draw<float> {
  using Signed = int32_t;
  static constexpr float UNIT = 0x1p-24f, ALL = 0x1p-32f;
  static constexpr int DROPPED = 8;  // low bits that a uniform number does not use

  static __device__ uint32_t whole(const Words& w, int i) { return w.word[i]; }
  static __device__ void sincospi(float x, float* s, float* c) { ::sincospif(x, s, c); }
};
template <>
struct Draw<double> {
  using Signed = int64_t;
  static constexpr double UNIT = 0x1p-53, ALL = 0x1p-64;
  static constexpr int DROPPED = 11;

  static __device__ uint64_t whole(const Words& w, int i) {
    return w.word[2 * i] | uint64_t(w.word[2 * i + 1]) << 32;
  }
  static __device__ void sincospi(double x, double* s, double* c) { ::sincospi(x, s, c); }
};

// Uniform numbers in [0, 1).
template <class T, int N>
__device__ void uniform(const Words& words, Pack<T, N>& out) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    out.item[i] = T(Draw<T>::whole(words, i) >> Draw<T>::DROPPED) * Draw<T>::UNIT;
  }
}

// Standard normal numbers by the Box-Muller transform (Box and Muller, 1958): two integers give a
// radius and an angle, and these give two numbers.
template <class T, int N>
__device__ void normal(const Words& words, Pack<T, N>& out) {
  using D = Draw<T>;
#pragma unroll
  for (int i = 0; i < N; i += 2) {
    const T within = T(D::whole(words, i)) * D::ALL + D::ALL / 2;
    const auto turn = static_cast<typename D::Signed>(D::whole(words, i + 1));
    const T radius = f::sqrt(T(-2) * f::log(within));
    T sine, cosine;
    D::sincospi(T(turn) * (2 * D::ALL), &sine, &cosine);
    out.item[i] = radius * cosine, out.item[i + 1] = radius * sine;
  }
}

template <bool NORMAL, class T>
__device__ void random_numbers(int64_t size, const int64_t* seed, const int64_t* offset, T* out) {
  constexpr int N = 16 / sizeof(T);
  const uint64_t key = static_cast<uint64_t>(*seed), first = static_cast<uint64_t>(*offset);
  const bool packed = reinterpret_cast<uint64_t>(out) % 16 == 0;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i * N < size; i += step) {
    const Words words = philox(first + i, key);
    Pack<T, N> made;
    if constexpr (NORMAL)
      normal(words, made);
    else
      uniform(words, made);
    if (packed && (i + 1) * N <= size) {
      reinterpret_cast<Pack<T, N>*>(out)[i] = made;
    } else {
      for (int j = 0; j < N && i * N + j < size; ++j) out[i * N + j] = made.item[j];
    }
  }
}

}  // namespace needle
