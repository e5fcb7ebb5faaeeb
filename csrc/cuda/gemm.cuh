// gemm.cuh: the matrix product for any strides, and the one to read first.
//
// Contract: out = a · b (+ bias), (m, k) · (k, n) for each matrix of a batch.
//
// Idea: a thread block computes a tile of TILE × TILE of the result. It iterates over k in steps of
// DEPTH; in each step it loads a panel of a and a panel of b into shared memory. A thread keeps
// ROWS × ROWS accumulators in registers, so that each number that it reads from shared memory is
// used ROWS times (Volkov and Demmel, "Benchmarking GPUs to tune dense linear algebra", 2008). The
// next panels are loaded into registers while the current ones are multiplied. Shared memory is
// double buffered, so that one barrier per step is enough.
#pragma once

#include "functions.cuh"

namespace needle {

template <class T>
struct Tiles {
  static constexpr int ROWS = is_same<T, float> ? 8 : 4;  // rows, and columns, per thread
  static constexpr int SIDE = 16;                         // threads along a side of the tile
  static constexpr int TILE = ROWS * SIDE;
  static constexpr int DEPTH = 8;
  static constexpr int THREADS = SIDE * SIDE;
  static constexpr int LOADS = TILE * DEPTH / THREADS;  // elements of a panel that a thread loads
};

// Loads a thread's elements of the panels of one operand. Element (i, k) of a panel of TILE × DEPTH
// is x[i·row + k·col], and 0 beyond the edges. Neighbouring threads read along the smaller stride,
// so that accesses are coalesced.
template <class T, class Stored>
struct PanelLoader {
  using S = Tiles<T>;
  const Stored* next;   // the thread's first element in the next panel
  int64_t step, turn;   // strides in x between the thread's elements, and between panels
  int place, hop;       // position in the panel of the first element, and stride to the next
  unsigned inside = 0;  // bit j: the row of element j exists
  int left, down;       // remaining depth at the first element, and depth between two elements

  __device__ PanelLoader(const Stored* x, int64_t row, int64_t col, int64_t rows, int64_t depth) {
    const int t = threadIdx.x;
    const bool along_k = col == 1;
    const int i = along_k ? t / S::DEPTH : t % S::TILE, k = along_k ? t % S::DEPTH : t / S::TILE;
    const int di = along_k ? S::THREADS / S::DEPTH : 0;
    down = along_k ? 0 : S::THREADS / S::TILE;
    left = static_cast<int>(depth) - k;
    place = k * (S::TILE + 1) + i, hop = down * (S::TILE + 1) + di;
    next = x + i * row + k * col, step = di * row + down * col, turn = S::DEPTH * col;
    for (int j = 0; j < S::LOADS; ++j) inside |= (i + j * di < rows ? 1u : 0u) << j;
  }

  __device__ void load(T (&loaded)[S::LOADS]) {
#pragma unroll
    for (int j = 0; j < S::LOADS; ++j) {
      loaded[j] = (inside >> j & 1u) && j * down < left ? f::convert<T>(next[j * step]) : T(0);
    }
    next += turn, left -= S::DEPTH;
  }

  __device__ void store(const T (&loaded)[S::LOADS], T* panel) const {
#pragma unroll
    for (int j = 0; j < S::LOADS; ++j) panel[place + j * hop] = loaded[j];
  }
};

// `batch` is the shape of the batch. The row and column strides are those of the two axes of a
// matrix. The arrays hold numbers of type Stored; the arithmetic is done in T.
template <int N, class T, class Stored>
__device__ void gemm(const Shape<N>& batch, int64_t m, int64_t n, int64_t k,
                     const Array<const Stored, N>& a, int64_t a_row, int64_t a_col,
                     const Array<const Stored, N>& b, int64_t b_row, int64_t b_col,
                     const Array<Stored, N>& out, int64_t out_row, int64_t out_col,
                     const Stored* bias, int64_t bias_stride) {
  using S = Tiles<T>;
  __shared__ T left[2][S::DEPTH][S::TILE + 1], right[2][S::DEPTH][S::TILE + 1];
  const int64_t down = (m + S::TILE - 1) / S::TILE, across = (n + S::TILE - 1) / S::TILE;
  const int ty = threadIdx.x / S::SIDE, tx = threadIdx.x % S::SIDE;
  int64_t index[N];
  unravel(static_cast<int64_t>(blockIdx.x) / (down * across), batch, index);
  const int64_t i0 = blockIdx.x / across % down * S::TILE, j0 = blockIdx.x % across * S::TILE;
  PanelLoader<T, Stored> a_panels(&a.at(index) + i0 * a_row, a_row, a_col, m - i0, k);
  PanelLoader<T, Stored> b_panels(&b.at(index) + j0 * b_col, b_col, b_row, n - j0, k);
  T sums[S::ROWS][S::ROWS] = {}, next_left[S::LOADS], next_right[S::LOADS];
  a_panels.load(next_left), b_panels.load(next_right);
  for (int left_over = static_cast<int>(k), place = 0; left_over > 0; place ^= 1) {
    a_panels.store(next_left, left[place][0]), b_panels.store(next_right, right[place][0]);
    __syncthreads();
    left_over -= S::DEPTH;
    if (left_over > 0) a_panels.load(next_left), b_panels.load(next_right);
#pragma unroll
    for (int d = 0; d < S::DEPTH; ++d) {
      T y[S::ROWS];
#pragma unroll
      for (int c = 0; c < S::ROWS; ++c) y[c] = right[place][d][tx + c * S::SIDE];
#pragma unroll
      for (int r = 0; r < S::ROWS; ++r) {
        const T x = left[place][d][ty + r * S::SIDE];
#pragma unroll
        for (int c = 0; c < S::ROWS; ++c) sums[r][c] += x * y[c];
      }
    }
  }
  Stored* const op = &out.at(index);
#pragma unroll
  for (int r = 0; r < S::ROWS; ++r) {
#pragma unroll
    for (int c = 0; c < S::ROWS; ++c) {
      const int64_t i = i0 + ty + r * S::SIDE, j = j0 + tx + c * S::SIDE;
      if (i < m && j < n) {
        T sum = sums[r][c];
        if (bias != nullptr) sum += f::convert<T>(bias[j * bias_stride]);
        op[i * out_row + j * out_col] = f::convert<Stored>(sum);
      }
    }
  }
}

}  // namespace needle
