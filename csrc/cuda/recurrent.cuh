// recurrent.cuh: one time step of an LSTM or an Elman RNN; the matrix product and the cell are
// fused into one kernel.
//
// Contract: all arrays are contiguous and of one floating type. `before` (B, H) is the state at the
// start of the step. w (H, G·H) has its columns gate by gate. gates (B, G·H) hold the projections
// of the input; the step overwrites them with the values that the gradient needs. The gradients
// take wᵀ as (G·H, H).
//
// Idea: a thread block computes ROWS × UNITS of the new states. Time steps run one after the other
// and their products are small, so that memory latency limits a step. Therefore the depth of the
// product is split over the lanes and warps of a block (split-K), and each of them has many loads
// of w in flight. The partial sums are added at the end in a fixed order. Neighbouring lanes read
// neighbouring columns of w, so that accesses are coalesced; the left operand goes through shared
// memory.
//
// Bound: reads of w from the L2 cache, once for every ROWS rows.
#pragma once

#include "functions.cuh"
#include "tiles.cuh"

namespace needle {

constexpr int STEP_ROWS = 16, STEP_UNITS = 8, STEP_WARPS = BLOCK / WARP;
constexpr int STEP_PARTS = WARP / STEP_UNITS;  // gates, or parts of the depth

// Computes left (rows, depth) · w (depth, columns) for the row and the unit of a thread. The result
// has the columns unit + gate·units for each of STEP_PARTS gates, or with ONE only the column
// `unit`.
template <bool ONE, class T>
struct StepProduct {
  static constexpr int W = ACCESS / sizeof(T), DEPTH = 1024 / sizeof(T), STEP = DEPTH + W;
  static constexpr int SHARE = ONE ? STEP_WARPS * STEP_PARTS : STEP_WARPS;  // parts of the depth
  union Shared {
    alignas(ACCESS) T left[STEP_ROWS * STEP];
    T sums[STEP_WARPS][STEP_ROWS][WARP];
  };

  // The result is undefined in threads that have no row and unit (see `Cell`).
  static __device__ void run(const Matrix<T>& left, const T* w, int64_t units, int64_t columns,
                             int64_t first, T (&out)[STEP_PARTS]) {
    __shared__ Shared shared;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, part = lane / STEP_UNITS;
    const int64_t unit = first + lane % STEP_UNITS;
    const int start = ONE ? warp * STEP_PARTS + part : warp;
    const bool inside = unit < units;
    const T* column = w + (inside ? unit + (ONE ? 0 : part * units) : 0);
    T mine[STEP_ROWS] = {};
    for (int64_t k = 0; k < left.cols; k += DEPTH) {
      load_tile<STEP_ROWS, DEPTH, STEP>(left.from(0, k), shared.left);
      __syncthreads();
      const int deep = static_cast<int>(left.cols - k < DEPTH ? left.cols - k : DEPTH);
#pragma unroll 2
      for (int d = start * W; d < deep; d += SHARE * W) {
        T y[W];
#pragma unroll
        for (int j = 0; j < W; ++j) y[j] = d + j < deep ? column[(k + d + j) * columns] : T(0);
#pragma unroll
        for (int r = 0; r < STEP_ROWS; ++r) {
          const auto x = *reinterpret_cast<const Pack<T, W>*>(shared.left + r * STEP + d);
#pragma unroll
          for (int j = 0; j < W; ++j) mine[r] += x.item[j] * y[j];
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < STEP_ROWS; ++r) shared.sums[warp][r][lane] = inside ? mine[r] : T(0);
    __syncthreads();
    const int row = threadIdx.x / STEP_UNITS % STEP_ROWS, at = threadIdx.x % STEP_UNITS;
#pragma unroll
    for (int p = 0; p < STEP_PARTS; ++p) {
      out[p] = T(0);
      for (int i = 0; i < STEP_WARPS; ++i) out[p] += shared.sums[i][row][p * STEP_UNITS + at];
    }
    if constexpr (ONE) out[0] = (out[0] + out[1]) + (out[2] + out[3]);
  }
};

// The row and unit of a thread. Only the first half of the threads of a block have one.
struct Cell {
  int64_t first_row, first_unit, row, unit;
  bool inside;

  __device__ Cell(int64_t rows, int64_t units) {
    const int64_t across = (units + STEP_UNITS - 1) / STEP_UNITS;
    first_row = blockIdx.x / across * STEP_ROWS, first_unit = blockIdx.x % across * STEP_UNITS;
    row = first_row + threadIdx.x / STEP_UNITS, unit = first_unit + threadIdx.x % STEP_UNITS;
    inside = threadIdx.x < STEP_ROWS * STEP_UNITS && row < rows && unit < units;
  }
};

// The rows of a contiguous matrix from `first` on.
template <class T>
__device__ Matrix<T> rows_from(const T* x, int64_t first, int64_t rows, int64_t cols) {
  return {x + first * cols, cols, 1, rows - first, cols};
}

// ---- LSTM -------------------------------------------------------------------------------------

// The gates are ordered i, f, g, o (Hochreiter and Schmidhuber, 1997; Gers et al., 2000) and are
// stored after their activation.
template <class T>
__device__ void lstm_step(int64_t rows, int64_t units, const T* w, const T* before, const T* c,
                          T* gates, T* h_next, T* c_next) {
  const Cell cell(rows, units);
  T z[STEP_PARTS];
  StepProduct<false, T>::run(rows_from(before, cell.first_row, rows, units), w, units, 4 * units,
                             cell.first_unit, z);
  if (!cell.inside) return;
  T* gate = gates + cell.row * 4 * units + cell.unit;
  const int64_t at = cell.row * units + cell.unit;
  const T i = f::sigmoid(z[0] + gate[0]), forget = f::sigmoid(z[1] + gate[units]);
  const T g = f::tanh(z[2] + gate[2 * units]), o = f::sigmoid(z[3] + gate[3 * units]);
  const T state = forget * c[at] + i * g;
  gate[0] = i, gate[units] = forget, gate[2 * units] = g, gate[3 * units] = o;
  c_next[at] = state, h_next[at] = o * f::tanh(state);
}

// Overwrites the gates of a step with the gradients of their projections. `later` (B, 4·H) holds
// these gradients for the next time step; the gradient of the state flows back through them. In the
// last time step it is `d_last` instead. dc (B, H) is the gradient of the cell state: on entry at
// the end of the step, on return at its start.
template <bool LAST, class T>
__device__ void lstm_step_grad(int64_t rows, int64_t units, const T* turned, const T* later,
                               const T* d_last, const T* dh, const T* c, const T* c_next, T* gates,
                               T* dc) {
  const Cell cell(rows, units);
  T back[STEP_PARTS];
  if constexpr (!LAST)
    StepProduct<true, T>::run(rows_from(later, cell.first_row, rows, 4 * units), turned, units,
                              units, cell.first_unit, back);
  if (!cell.inside) return;
  T* gate = gates + cell.row * 4 * units + cell.unit;
  const int64_t at = cell.row * units + cell.unit;
  const T i = gate[0], forget = gate[units], g = gate[2 * units], o = gate[3 * units];
  const T d = dh[at] + (LAST ? d_last[at] : back[0]), tanh_c = f::tanh(c_next[at]);
  const T d_cell = dc[at] + d * o * (T(1) - tanh_c * tanh_c);
  gate[0] = d_cell * g * i * (T(1) - i);
  gate[units] = d_cell * c[at] * forget * (T(1) - forget);
  gate[2 * units] = d_cell * i * (T(1) - g * g);
  gate[3 * units] = d * tanh_c * o * (T(1) - o);
  dc[at] = d_cell * forget;
}

// ---- Elman RNN --------------------------------------------------------------------------------

// Adds before·w to gates (B, H). The new state is the tanh or the relu of the sum (Elman, 1990).
template <bool RELU, class T>
__device__ void rnn_step(int64_t rows, int64_t units, const T* w, const T* before, T* gates,
                         T* h_next) {
  const Cell cell(rows, units);
  T z[STEP_PARTS];
  StepProduct<true, T>::run(rows_from(before, cell.first_row, rows, units), w, units, units,
                            cell.first_unit, z);
  if (!cell.inside) return;
  const int64_t at = cell.row * units + cell.unit;
  const T sum = z[0] + gates[at];
  gates[at] = sum, h_next[at] = RELU ? f::relu(sum) : f::tanh(sum);
}

template <bool RELU, bool LAST, class T>
__device__ void rnn_step_grad(int64_t rows, int64_t units, const T* turned, const T* later,
                              const T* d_last, const T* dh, const T* h_next, T* gates) {
  const Cell cell(rows, units);
  T back[STEP_PARTS];
  if constexpr (!LAST)
    StepProduct<true, T>::run(rows_from(later, cell.first_row, rows, units), turned, units, units,
                              cell.first_unit, back);
  if (!cell.inside) return;
  const int64_t at = cell.row * units + cell.unit;
  const T y = h_next[at], d = dh[at] + (LAST ? d_last[at] : back[0]);
  gates[at] = RELU ? f::relu_grad(d, y) : d * (T(1) - y * y);
}

}  // namespace needle
