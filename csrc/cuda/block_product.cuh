// block_product.cuh: sums of the products of panels in shared memory, over the threads of a block.
//
// A block adds the product of a panel of ROWS × DEPTH numbers and one of DEPTH × COLS to ROWS ×
// COLS sums in its registers, by the threads' own arithmetic (`FmaBlock`) or by tensor cores
// (`MmaBlock`). Both have the same names, so that a kernel is written once. A panel lies in shared
// memory as suits the product; ALONG_DEPTH says along which side its operand lies in memory. `each`
// calls a function for ADJACENT sums beside each other, with the row and column of the first.
#pragma once

#include "gemm.cuh"
#include "tiles.cuh"

namespace needle {

// Registers hold the sums of SIDE × SIDE threads, as in gemm.cuh.
template <class T, int COLS_>
struct FmaBlock {
  using Number = T;
  using Sum = T;
  static constexpr int SIDE = Tiles<T>::SIDE, ROWS = Tiles<T>::TILE, COLS = COLS_;
  static constexpr int DEPTH = Tiles<T>::DEPTH, ADJACENT = 1;

  template <int SIZE_, bool ALONG_DEPTH>
  struct Panel {
    static constexpr int SIZE = SIZE_;
    static constexpr bool IN_PACKS = false;  // whether it lies as the operand does
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

// Each of 8 warps has WARP_ROWS × 32 sums in registers. Panels lie as their operands lie in memory:
// fragments are transposed on the way to registers (NVIDIA, "CUTLASS: Efficient GEMM in CUDA",
// section on the hierarchy). Numbers of 2 bytes, or floats rounded to TF32.
template <class T, int COLS_>
struct MmaBlock {
  using Number = T;
  using Sum = float;
  static constexpr int ROWS = 128, COLS = COLS_, DEPTH = 64 / sizeof(T), ADJACENT = 2;
  static constexpr int WARP_COLS = 32, ACROSS = COLS / WARP_COLS;  // warps beside each other
  static constexpr int WARP_ROWS = ROWS * ACROSS * WARP / BLOCK;

  template <int SIZE_, bool ALONG_DEPTH_>
  struct Panel {
    static constexpr int SIZE = SIZE_;
    static constexpr bool IN_PACKS = true, ALONG_DEPTH = ALONG_DEPTH_;
    static constexpr int LINES = ALONG_DEPTH ? SIZE : DEPTH, LENGTH = ALONG_DEPTH ? DEPTH : SIZE;
    // Floats across the depth are loaded one by one, 8 of each of 4 lines: banks differ by 8 then.
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
