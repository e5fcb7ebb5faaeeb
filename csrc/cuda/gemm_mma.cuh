// gemm_mma.cuh: the matrix product on tensor cores, for 2-byte types and for floats as TF32.
//
// Contract: the same as that of gemm.cuh: out = a · b (+ bias) for each matrix of a batch, any
// strides. It needs compute capability 8.0 or later.
//
// Idea: a thread block computes a tile of 128 × 128. Each of its 8 warps keeps 64 × 32 accumulators
// in registers. The panels in shared memory are 64 bytes deep and have the layout that the operands
// have in global memory (block_product.cuh). Panels are double buffered: asynchronous copies load
// the next ones while the current ones are multiplied (NVIDIA, "CUTLASS: Efficient GEMM in CUDA",
// sections on the hierarchy and on pipelining).
#pragma once

#include "block_product.cuh"

namespace needle {

// Starts the copy of a panel from `depth` on. `x` is (rows, depth) if ALONG_DEPTH, otherwise
// (depth, rows).
template <class Panel, class T>
__device__ void load_panel(const Matrix<T>& x, int64_t depth, Panel& panel) {
  const Matrix<T> from = Panel::ALONG_DEPTH ? x.from(0, depth) : x.from(depth, 0);
  load_tile<Panel::LINES, Panel::LENGTH, Panel::STEP, true>(from, panel.data);
}

// A_TURNED says that the columns of a are contiguous, B_TURNED that the rows of b are. Both affect
// only the speed, not the result.
template <bool A_TURNED, bool B_TURNED, int N, class T>
__device__ void gemm_mma(const Shape<N>& batch, int64_t m, int64_t n, int64_t k,
                         const Array<const T, N>& a, int64_t a_row, int64_t a_col,
                         const Array<const T, N>& b, int64_t b_row, int64_t b_col,
                         const Array<T, N>& out, int64_t out_row, int64_t out_col, const T* bias,
                         int64_t bias_stride) {
  using S = MmaBlock<T, 128>;
  __shared__ typename S::template Panel<S::ROWS, !A_TURNED> left[2];
  __shared__ typename S::template Panel<S::COLS, !B_TURNED> right[2];
  const int64_t down = (m + S::ROWS - 1) / S::ROWS, across = (n + S::COLS - 1) / S::COLS;
  int64_t index[N];
  unravel(static_cast<int64_t>(blockIdx.x) / (down * across), batch, index);
  const int64_t i0 = blockIdx.x / across % down * S::ROWS, j0 = blockIdx.x % across * S::COLS;
  const T *const ap = &a.at(index) + i0 * a_row, *const bp = &b.at(index) + j0 * b_col;
  const Matrix<T> x =
      A_TURNED ? Matrix<T>{ap, a_col, a_row, k, m - i0} : Matrix<T>{ap, a_row, a_col, m - i0, k};
  const Matrix<T> y =
      B_TURNED ? Matrix<T>{bp, b_row, b_col, k, n - j0} : Matrix<T>{bp, b_col, b_row, n - j0, k};
  S product;
  load_panel(x, 0, left[0]), load_panel(y, 0, right[0]);
  for (int64_t depth = 0, place = 0; depth < k; depth += S::DEPTH, place ^= 1) {
    wait_for_copies();
    __syncthreads();  // these panels are complete, and no thread reads the other two any more
    if (depth + S::DEPTH < k) {
      load_panel(x, depth + S::DEPTH, left[place ^ 1]);
      load_panel(y, depth + S::DEPTH, right[place ^ 1]);
    }
    product.multiply(left[place], right[place]);
  }
  T* const op = &out.at(index);
  product.each([&](int row, int col, const float* sums) {
#pragma unroll
    for (int s = 0; s < S::ADJACENT; ++s) {
      const int64_t i = i0 + row, j = j0 + col + s;
      if (i < m && j < n) {
        const float shift = bias == nullptr ? 0.0f : widen(bias[j * bias_stride]);
        op[i * out_row + j * out_col] = narrow<T>(sums[s] + shift);
      }
    }
  });
}

}  // namespace needle
