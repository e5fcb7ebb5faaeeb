// gemm_mma.cuh: the matrix product of 2-byte numbers on tensor cores, with sums in float.
//
// The contract of gemm.cuh: out = a · b (+ bias) for each of a batch, any strides. A block computes
// 128 × 128 results, each of its 8 warps 64 × 32 of them in registers, from panels of 32 in depth
// that lie in shared memory as they lie in memory: ldmatrix transposes on the way to registers. The
// next panels are copied while these are multiplied (NVIDIA, "CUTLASS: Efficient GEMM in CUDA",
// sections on the hierarchy and on pipelining). Compute capability 8.0 and later.
#pragma once

#include "tiles.cuh"

namespace needle {

struct MmaSizes {
  static constexpr int TILE = 128, DEPTH = 32, ACROSS = 4;  // warps beside each other
  static constexpr int WARP_ROWS = TILE * ACROSS * WARP / BLOCK, WARP_COLS = TILE / ACROSS;
};

// A panel of one operand in shared memory. It lies as TILE lines of DEPTH, or as DEPTH lines of
// TILE if TURNED.
template <class T, bool TURNED>
struct MmaPanel {
  using S = MmaSizes;
  static constexpr int LINES = TURNED ? S::DEPTH : S::TILE, LENGTH = TURNED ? S::TILE : S::DEPTH;
  static constexpr int STEP = LENGTH + BANKS_GAP / sizeof(T);

  alignas(ACCESS) T data[LINES * STEP];

  // `x` is (depth, lines) if TURNED, else (lines, depth).
  __device__ void load(const Matrix<T>& x, int64_t depth) {
    load_tile<LINES, LENGTH, STEP, true>(TURNED ? x.from(depth, 0) : x.from(0, depth), data);
  }
  __device__ const T* at(int line, int depth) const {
    return data + (TURNED ? depth * STEP + line : line * STEP + depth);
  }
  __device__ Fragment left(int line, int depth) const {
    if constexpr (TURNED)
      return load_left_transposed(at(line, depth), STEP);
    else
      return load_left(at(line, depth), STEP);
  }
  __device__ Fragment right(int line, int depth) const {
    if constexpr (TURNED)
      return load_right(at(line, depth), STEP);
    else
      return load_right_transposed(at(line, depth), STEP);
  }
};

// A_TURNED: a's columns lie side by side in memory; B_TURNED: b's rows do. It is a matter of speed
// alone.
template <bool A_TURNED, bool B_TURNED, int N, class T>
__device__ void gemm_mma(const Shape<N>& batch, int64_t m, int64_t n, int64_t k,
                         const Array<const T, N>& a, int64_t a_row, int64_t a_col,
                         const Array<const T, N>& b, int64_t b_row, int64_t b_col,
                         const Array<T, N>& out, int64_t out_row, int64_t out_col, const T* bias,
                         int64_t bias_stride) {
  using S = MmaSizes;
  constexpr int ROWS = S::WARP_ROWS, COLS = S::WARP_COLS;
  __shared__ MmaPanel<T, A_TURNED> left[2];
  __shared__ MmaPanel<T, B_TURNED> right[2];
  const int64_t down = (m + S::TILE - 1) / S::TILE, across = (n + S::TILE - 1) / S::TILE;
  int64_t index[N];
  unravel(static_cast<int64_t>(blockIdx.x) / (down * across), batch, index);
  const int64_t i0 = blockIdx.x / across % down * S::TILE, j0 = blockIdx.x % across * S::TILE;
  const T *const ap = &a.at(index) + i0 * a_row, *const bp = &b.at(index) + j0 * b_col;
  const Matrix<T> x =
      A_TURNED ? Matrix<T>{ap, a_col, a_row, k, m - i0} : Matrix<T>{ap, a_row, a_col, m - i0, k};
  const Matrix<T> y =
      B_TURNED ? Matrix<T>{bp, b_row, b_col, k, n - j0} : Matrix<T>{bp, b_col, b_row, n - j0, k};
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const int i1 = warp / S::ACROSS * ROWS, j1 = warp % S::ACROSS * COLS;
  float sums[ROWS / 16][COLS / 8][4] = {};
  left[0].load(x, 0), right[0].load(y, 0);
  for (int64_t depth = 0, place = 0; depth < k; depth += S::DEPTH, place ^= 1) {
    wait_for_copies();
    __syncthreads();  // these panels are there, the others have been used
    if (depth + S::DEPTH < k) {
      left[place ^ 1].load(x, depth + S::DEPTH), right[place ^ 1].load(y, depth + S::DEPTH);
    }
#pragma unroll
    for (int d = 0; d < S::DEPTH; d += 16) {
      Fragment columns[COLS / 16];
#pragma unroll
      for (int c = 0; c < COLS / 16; ++c) columns[c] = right[place].right(j1 + c * 16, d);
#pragma unroll
      for (int r = 0; r < ROWS / 16; ++r) {
        const Fragment row = left[place].left(i1 + r * 16, d);
#pragma unroll
        for (int c = 0; c < COLS / 8; ++c) {
          float (&s)[4] = sums[r][c];
          multiply_add<T>(s[0], s[1], s[2], s[3], row, columns[c / 2], c % 2);
        }
      }
    }
  }
  T* const op = &out.at(index);
#pragma unroll
  for (int r = 0; r < ROWS / 16; ++r) {
#pragma unroll
    for (int c = 0; c < COLS / 8; ++c) {
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const int64_t i = i0 + i1 + r * 16 + lane / 4 + s / 2 * 8;
        const int64_t j = j0 + j1 + c * 8 + lane % 4 * 2 + s % 2;
        if (i < m && j < n) {
          const float shift = bias == nullptr ? 0.0f : widen(bias[j * bias_stride]);
          op[i * out_row + j * out_col] = narrow<T>(sums[r][c][s] + shift);
        }
      }
    }
  }
}

}  // namespace needle
