// gemm.cuh: the matrix product of any strides, and the one to learn from.
//
// out = a · b (+ bias): (m, k) · (k, n) for each of a batch. A block computes a tile of TILE × TILE
// of the result; it goes over k in steps of DEPTH, for which it brings a panel of a and one of b
// into shared memory. A thread keeps ROWS × ROWS results in registers, so that each number it reads
// from shared memory is used ROWS times (Volkov and Demmel, "Benchmarking GPUs to tune dense linear
// algebra", 2008). The next panels are read into registers while this one is multiplied, and there
// are two places for panels, so that one barrier a step is enough.
#pragma once

#include "common.cuh"

namespace needle {

template <class T>
struct Tiles {
  static constexpr int ROWS = sizeof(T) == 8 ? 4 : 8;  // and columns of a thread
  static constexpr int SIDE = 16;                      // threads along a side of the tile
  static constexpr int TILE = ROWS * SIDE;
  static constexpr int DEPTH = 8;
  static constexpr int THREADS = SIDE * SIDE;
  static constexpr int LOADS = TILE * DEPTH / THREADS;  // numbers of a panel that a thread brings
};

// A thread's share of the panels of one operand: element (i, k) of a panel of TILE × DEPTH is
// x[i·row + k·col], 0 beyond the edges. Neighbouring threads read along the smaller stride.
template <class T>
struct PanelLoader {
  using S = Tiles<T>;
  const T* next;      // its first number in the next panel
  int64_t step, turn;  // from one of its numbers to the next, and from panel to panel
  int i, k, di, dk;   // where in the panel the first one is, and how far the next
  int rows, depth;    // what there is of the operand from here on

  __device__ PanelLoader(const T* x, int64_t row, int64_t col, int64_t rows_left, int64_t depth_left)
      : rows(static_cast<int>(rows_left < S::TILE ? rows_left : S::TILE)),
        depth(static_cast<int>(depth_left)) {
    const int t = threadIdx.x;
    const bool along_k = col == 1;
    i = along_k ? t / S::DEPTH : t % S::TILE, k = along_k ? t % S::DEPTH : t / S::TILE;
    di = along_k ? S::THREADS / S::DEPTH : 0, dk = along_k ? 0 : S::THREADS / S::TILE;
    next = x + i * row + k * col, step = di * row + dk * col, turn = S::DEPTH * col;
  }

  __device__ void load(T (&loaded)[S::LOADS]) {
#pragma unroll
    for (int j = 0; j < S::LOADS; ++j) {
      loaded[j] = i + j * di < rows && k + j * dk < depth ? next[j * step] : T(0);
    }
    next += turn, depth -= S::DEPTH;
  }

  __device__ void store(const T (&loaded)[S::LOADS], T (&panel)[S::DEPTH][S::TILE + 1]) const {
#pragma unroll
    for (int j = 0; j < S::LOADS; ++j) panel[k + j * dk][i + j * di] = loaded[j];
  }
};

// `batch` is the shape of the batch, the strides of the matrices are those of their two axes.
template <int N, class T>
__device__ void gemm(int64_t batches, const Shape<N>& batch, int64_t m, int64_t n, int64_t k,
                     const Array<const T, N>& a, int64_t a_row, int64_t a_col,
                     const Array<const T, N>& b, int64_t b_row, int64_t b_col,
                     const Array<T, N>& out, int64_t out_row, int64_t out_col, const T* bias,
                     int64_t bias_stride) {
  using S = Tiles<T>;
  __shared__ T left[2][S::DEPTH][S::TILE + 1], right[2][S::DEPTH][S::TILE + 1];
  const int64_t down = (m + S::TILE - 1) / S::TILE, across = (n + S::TILE - 1) / S::TILE;
  const int ty = threadIdx.x / S::SIDE, tx = threadIdx.x % S::SIDE;
  for (int64_t job = blockIdx.x; job < batches * down * across; job += gridDim.x) {
    int64_t index[N];
    unravel(job / (down * across), batch, index);
    const int64_t i0 = job / across % down * S::TILE, j0 = job % across * S::TILE;
    PanelLoader<T> a_panels(&a.at(index) + i0 * a_row, a_row, a_col, m - i0, k);
    PanelLoader<T> b_panels(&b.at(index) + j0 * b_col, b_col, b_row, n - j0, k);
    T sums[S::ROWS][S::ROWS] = {}, next_left[S::LOADS], next_right[S::LOADS];
    a_panels.load(next_left), b_panels.load(next_right);
    for (int left_over = static_cast<int>(k), place = 0; left_over > 0; place ^= 1) {
      a_panels.store(next_left, left[place]), b_panels.store(next_right, right[place]);
      __syncthreads();
      left_over -= S::DEPTH;
      if (left_over > 0) a_panels.load(next_left), b_panels.load(next_right);
#pragma unroll
      for (int d = 0; d < S::DEPTH; ++d) {
        T x[S::ROWS], y[S::ROWS];
#pragma unroll
        for (int r = 0; r < S::ROWS; ++r) {
          x[r] = left[place][d][ty + r * S::SIDE], y[r] = right[place][d][tx + r * S::SIDE];
        }
#pragma unroll
        for (int r = 0; r < S::ROWS; ++r) {
#pragma unroll
          for (int c = 0; c < S::ROWS; ++c) sums[r][c] += x[r] * y[c];
        }
      }
    }
    T* const op = &out.at(index);
#pragma unroll
    for (int r = 0; r < S::ROWS; ++r) {
#pragma unroll
      for (int c = 0; c < S::ROWS; ++c) {
        const int64_t i = i0 + ty + r * S::SIDE, j = j0 + tx + c * S::SIDE;
        if (i < m && j < n) {
          op[i * out_row + j * out_col] =
              bias == nullptr ? sums[r][c] : T(sums[r][c] + bias[j * bias_stride]);
        }
      }
    }
    __syncthreads();  // the panels have been read before the next tile's come
  }
}

}  // namespace needle
