// program_runtime.cuh: what the loops that needle.jit generates are written in.
//
// A block is 256 threads in rows of WIDTH, which is a power of two.
#pragma once

#include "index.cuh"
#include "reduce.cuh"

#define INT64_C(x) x##LL

namespace std {  // as far as literals need it: there is no standard library

template <class T>
struct numeric_limits {
  static __device__ T infinity() { return needle::highest<T>(); }
  static __device__ T quiet_NaN() { return infinity() - infinity(); }
};

}  // namespace std

namespace needle {

using f::convert;

// The operands of kernels that share a launch. Kernel k has the blocks from first[k] up to, but
// without, first[k + 1].
template <int KERNELS, int POINTERS>
struct LaunchTable {
  int64_t first[KERNELS + 1], size[KERNELS];
  void* pointer[KERNELS][POINTERS];

  // The number of the kernel that a block runs, by bisection.
  __device__ int of(int64_t block) const {
    int kernel = 0;
    for (int step = 512; step > 0; step /= 2) {
      if (kernel + step < KERNELS && first[kernel + step] <= block) kernel += step;
    }
    return kernel;
  }
};

// What `combine` makes of a value over the WIDTH threads of a row of the block, in all of them: at
// most a warp, or all of the block.
template <int WIDTH, class Combine, class T>
__device__ T over_row(T value, Combine combine) {
  if constexpr (WIDTH > WARP)
    return over_block(value, Combine::template identity<T>(), combine);
  else
    return over_lanes<WIDTH>(value, combine);
}

// The same over the threads that are in one place of their rows, where WIDTH is at most a warp;
// wider rows fill the block.
template <int WIDTH, class Combine, class T>
__device__ T over_column(T value, Combine combine) {
  if constexpr (WIDTH > WARP) return value;
  __shared__ T parts[256];
#pragma unroll
  for (int step = WARP / 2; step >= WIDTH; step /= 2) {
    value = combine(value, static_cast<T>(__shfl_xor_sync(ALL_LANES, +value, step)));
  }
  const int warps = blockDim.x / WARP, lane = threadIdx.x % WARP, place = threadIdx.x % WIDTH;
  __syncthreads();  // the parts of an earlier call have been read
  if (lane < WIDTH) parts[threadIdx.x / WARP * WIDTH + lane] = value;
  __syncthreads();
  value = parts[place];
  for (int warp = 1; warp < warps; ++warp) value = combine(value, parts[warp * WIDTH + place]);
  return value;
}

// Whether this block is the last of `blocks` to come here: it sees what the others have written
// before, and leaves the counter at 0, as it was (threadFenceReduction of NVIDIA's CUDA samples).
__device__ inline bool is_last(unsigned* counter, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
  __syncthreads();
  __threadfence();
  return last;
}

}  // namespace needle
