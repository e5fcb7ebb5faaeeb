// elementwise.cuh: fill, copy, unary, binary, select; any element-wise function of some arrays.
//
// Contract: inputs have the shape of `out` (a broadcast axis has stride 0); `out` aliases none of
// them.
//
// Idea: where all operands are contiguous in the same order, a thread moves 16 bytes per access;
// otherwise it computes the address of each element from its indices. With grid-stride loops the
// size of the grid depends on the GPU and not on the array (Harris, "CUDA Pro Tip: Grid-Stride
// Loops", 2013).
//
// Bound: memory bandwidth.
#pragma once

#include "functions.cuh"

namespace needle {

// out[i] = f(in[i]...) for arrays that are contiguous in the same order; W elements form a pack.
template <int W, class F, class Out, class... In>
__device__ void map_packed(F f, int64_t size, Out* out, const In*... in) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = int64_t(gridDim.x) * blockDim.x, packs = size / W;
  const auto one = [&](const Pack<In, W>&... x) {
    Pack<Out, W> y;
#pragma unroll
    for (int i = 0; i < W; ++i) y.item[i] = f(x.item[i]...);
    return y;
  };
  int64_t i = first;
  // The loads of two packs are in flight at a time. With W > 4 two packs would need too many
  // registers.
  for (; W <= 4 && i + step < packs; i += 2 * step) {
    const auto low = one(reinterpret_cast<const Pack<In, W>*>(in)[i]...);
    const auto high = one(reinterpret_cast<const Pack<In, W>*>(in)[i + step]...);
    reinterpret_cast<Pack<Out, W>*>(out)[i] = low;
    reinterpret_cast<Pack<Out, W>*>(out)[i + step] = high;
  }
  for (; i < packs; i += step) {
    reinterpret_cast<Pack<Out, W>*>(out)[i] = one(reinterpret_cast<const Pack<In, W>*>(in)[i]...);
  }
  for (int64_t i = packs * W + first; i < size; i += step) out[i] = f(in[i]...);
}

// out[i] = f(in[i]...) for arrays with any strides.
template <class Index, int N, class F, class Out, class... In>
__device__ void map_strided(F f, int64_t size, const Shape<N>& shape, const Array<Out, N>& out,
                            const Array<const In, N>&... in) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < static_cast<Index>(size); i += step) {
    Index index[N];
    unravel(i, shape, index);
    out.at(index) = f(in.at(index)...);
  }
}

// Copies matrices between opposite layouts: `in` is column-major and `out` row-major. A tile goes
// through shared memory, so that both the reads and the writes are coalesced. The rows of the tile
// are padded by one element, which avoids bank conflicts (Ruetsch and Micikevicius, "Optimizing
// matrix transpose in CUDA", 2009).
template <int N, class Out, class In>
__device__ void copy_turned(int64_t rows, int64_t cols, const Shape<N>& batch, int64_t matrices,
                            const Array<Out, N>& out, int64_t out_row, const Array<const In, N>& in,
                            int64_t in_col) {
  constexpr int SIDE = WARP;
  __shared__ In tile[SIDE][SIDE + 1];
  const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE, step = blockDim.x / SIDE;
  const int64_t down = (rows + SIDE - 1) / SIDE, across = (cols + SIDE - 1) / SIDE;
  for (int64_t job = blockIdx.x; job < matrices * down * across; job += gridDim.x) {
    int64_t index[N];
    unravel(job / (down * across), batch, index);
    const int64_t r0 = job / across % down * SIDE, c0 = job % across * SIDE;
    const In* from = &in.at(index) + r0;
    Out* to = &out.at(index) + c0;
    for (int i = ty; i < SIDE; i += step) {
      if (r0 + tx < rows && c0 + i < cols) tile[i][tx] = from[(c0 + i) * in_col + tx];
    }
    __syncthreads();
    for (int i = ty; i < SIDE; i += step) {
      if (r0 + i < rows && c0 + tx < cols) {
        to[(r0 + i) * out_row + tx] = f::convert<Out>(tile[tx][i]);
      }
    }
    __syncthreads();
  }
}

}  // namespace needle
