// random.cuh: numbers of a counter-based generator, as src/needle/backend_ndarray/philox.py.
//
// Contract: seed and offset are read from the GPU's memory, where a captured program moves the
// offset on; `out` is compact. A thread makes 16 bytes of numbers from one block of the generator:
// what they are follows from the seed, the offset and their place, whatever the grid is.
// Bound: memory bandwidth; a block is 20 wide products.
#pragma once

#include "functions.cuh"

namespace needle {

struct Words {
  uint32_t word[4];
};

// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011) of the counter (block, 0).
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

// What differs between the types: the integers of a block, and powers of two.
template <class T>
struct Draw;
template <>
struct Draw<float> {
  using Signed = int32_t;
  static constexpr float UNIT = 0x1p-24f, ALL = 0x1p-32f;
  static constexpr int DROPPED = 8;  // of the bits, in a uniform number

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

// In [0, 1).
template <class T, int N>
__device__ void uniform(const Words& words, Pack<T, N>& out) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    out.item[i] = T(Draw<T>::whole(words, i) >> Draw<T>::DROPPED) * Draw<T>::UNIT;
  }
}

// Standard normal numbers, two of two integers (Box and Muller, 1958): radius and angle.
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
