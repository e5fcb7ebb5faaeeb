// gemm_mma.cuh: the matrix product on tensor cores, of 2-byte numbers and of floats as TF32.
//
// The contract of gemm.cuh: out = a · b (+ bias) for each of a batch, any strides. A block computes
// 128 × 128 results, each of its 8 warps 64 × 32 of them in registers, from panels of 32 in depth
// that lie in shared memory as they lie in memory (block_product.cuh). The next panels are copied
// while these are multiplied (NVIDIA, "CUTLASS: Efficient GEMM in CUDA", sections on the hierarchy
// and on pipelining). Compute capability 8.0 and later.
#pragma once

#include "block_product.cuh"

namespace needle {

// `x` is (depth, lines) if not ALONG_DEPTH, else (lines, depth).
template <class Panel, class T>
__device__ void load_panel(const Matrix<T>& x, int64_t depth, Panel& panel) {
  const Matrix<T> from = Panel::ALONG_DEPTH ? x.from(0, depth) : x.from(depth, 0);
  load_tile<Panel::LINES, Panel::LENGTH, Panel::STEP, true>(from, panel.data);
}

// A_TURNED: a's columns lie side by side in memory; B_TURNED: b's rows do. It is a matter of speed
// alone.
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
    __syncthreads();  // these panels are there, the others have been used
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
