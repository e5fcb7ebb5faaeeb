// block_product.cuh: the matrix product of two panels in shared memory, by a whole thread block.
//
// A block multiplies a panel of ROWS × DEPTH by a panel of DEPTH × COLS and accumulates the product
// in ROWS × COLS accumulators, which its threads keep in registers. `FmaBlock` uses FMA
// instructions, `MmaBlock` tensor cores. Both have the same interface, so that a kernel is written
// once. Each chooses the layout of a panel in shared memory; ALONG_DEPTH says that the operand is
// contiguous along the depth in global memory. `each` visits the accumulators: for every ADJACENT
// of them in a row it calls a function with the row and column of the first.
#pragma once

#include "gemm.cuh"
#include "tiles.cuh"

namespace needle {

// SIDE × SIDE threads keep the accumulators in registers, as in gemm.cuh.
template <class T, int COLS_>
struct FmaBlock {
  using Number = T;
  using Sum = T;
  static constexpr int SIDE = Tiles<T>::SIDE, ROWS = Tiles<T>::TILE, COLS = COLS_;
  static constexpr int DEPTH = Tiles<T>::DEPTH, ADJACENT = 1;

  template <int SIZE_, bool ALONG_DEPTH>
  struct Panel {
    static constexpr int SIZE = SIZE_;
    static constexpr bool IN_PACKS = false;  // whether the panel has the layout of its operand
    T data[DEPTH][SIZE + 1];
    __device__ T* at(int i, int k) { return &data[k][i]; }
  };

  T sums[ROWS / SIDE][COLS / SIDE] = {};

  static __device__ int row() { return threadIdx.x / SIDE; }
  static __device__ int col() { return threadIdx.x % SIDE; }

  template <class Left, class Right>
  __device__ void multiply(const Left& left, const Right& right) {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      T y[COLS / SIDE];
#pragma unroll
      for (int c = 0; c < COLS / SIDE; ++c) y[c] = right.data[d][col() + c * SIDE];
#pragma unroll
      for (int r = 0; r < ROWS / SIDE; ++r) {
        const T x = left.data[d][row() + r * SIDE];
#pragma unroll
        for (int c = 0; c < COLS / SIDE; ++c) sums[r][c] += x * y[c];
      }
    }
  }

  template <class F>
  __device__ void each(F f) const {
#pragma unroll
    for (int r = 0; r < ROWS / SIDE; ++r) {
#pragma unroll
      for (int c = 0; c < COLS / SIDE; ++c) f(row() + r * SIDE, col() + c * SIDE, &sums[r][c]);
    }
  }
};

// Each of 8 warps keeps WARP_ROWS × 32 accumulators in registers. A panel has the layout that its
// operand has in global memory; fragments are transposed while they are loaded into registers
// (NVIDIA, "CUTLASS: Efficient GEMM in CUDA", section on the hierarchy). T is a 2-byte type, or
// float, which is rounded to TF32.
template <class T, int COLS_>
struct MmaBlock {
  using Number = T;
  using Sum = float;
  static constexpr int ROWS = 128, COLS = COLS_, DEPTH = 64 / sizeof(T), ADJACENT = 2;
  static constexpr int WARP_COLS = 32, ACROSS = COLS / WARP_COLS;  // warps along the columns
  static constexpr int WARP_ROWS = ROWS * ACROSS * WARP / BLOCK;

  template <int SIZE_, bool ALONG_DEPTH_>
  struct Panel {
    static constexpr int SIZE = SIZE_;
    static constexpr bool IN_PACKS = true, ALONG_DEPTH = ALONG_DEPTH_;
    static constexpr int LINES = ALONG_DEPTH ? SIZE : DEPTH, LENGTH = ALONG_DEPTH ? DEPTH : SIZE;
    // The padding avoids bank conflicts. Transposed floats are loaded one by one: a warp reads 8
    // floats from each of 4 lines, so that lines must start 8 banks apart.
    static constexpr int STEP = LENGTH + (ALONG_DEPTH ? BANKS_GAP / sizeof(T) : 8);

    alignas(ACCESS) T data[LINES * STEP];

    __device__ T* at(int i, int k) { return data + offset(i, k); }
    __device__ Fragment left(int i, int k) const {
      if constexpr (ALONG_DEPTH)
        return load_left(data + offset(i, k), STEP);
      else
        return load_left_transposed(data + offset(i, k), STEP);
    }
    __device__ Fragment right(int j, int k) const {
      if constexpr (ALONG_DEPTH)
        return load_right_transposed(data + offset(j, k), STEP);
      else
        return load_right(data + offset(j, k), STEP);
    }
    static __device__ int offset(int i, int k) { return ALONG_DEPTH ? i * STEP + k : k * STEP + i; }
  };

  float sums[WARP_ROWS / 16][WARP_COLS / 8][4] = {};

  static __device__ int row() { return threadIdx.x / WARP / ACROSS * WARP_ROWS; }
  static __device__ int col() { return threadIdx.x / WARP % ACROSS * WARP_COLS; }

  template <class Left, class Right>
  __device__ void multiply(const Left& left, const Right& right) {
#pragma unroll
    for (int d = 0; d < DEPTH; d += FRAGMENT_DEPTH<T>) {
      Fragment columns[WARP_COLS / 16];
#pragma unroll
      for (int c = 0; c < WARP_COLS / 16; ++c) columns[c] = right.right(col() + c * 16, d);
#pragma unroll
      for (int r = 0; r < WARP_ROWS / 16; ++r) {
        const Fragment rows = left.left(row() + r * 16, d);
#pragma unroll
        for (int c = 0; c < WARP_COLS / 8; ++c) {
          float (&s)[4] = sums[r][c];
          multiply_add<T>(s[0], s[1], s[2], s[3], rows, columns[c / 2], c % 2);
        }
      }
    }
  }

  template <class F>
  __device__ void each(F f) const {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int r = 0; r < WARP_ROWS / 16; ++r) {
#pragma unroll
      for (int c = 0; c < WARP_COLS / 8; ++c) {
#pragma unroll
        for (int s = 0; s < 4; s += 2) {
          f(row() + r * 16 + lane / 4 + s / 2 * 8, col() + c * 8 + lane % 4 * 2, &sums[r][c][s]);
        }
      }
    }
  }
};

}  // namespace needle
