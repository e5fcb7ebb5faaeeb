// reduce.cuh: sum, prod, max, min over any axes; argmax, argmin, cumsum and argsort along one axis.
//
// Contract: sums and products of integers are int64. max, min, argmax and argmin propagate NaN. The
// order of additions depends only on the shapes, so that results are the same from run to run. A
// sum of floats is within 64·u·Σ|x| of the exact one, whatever its length, and a cumulative sum
// within 16·u·Σ|x| (sums.cuh).
#pragma once

#include "functions.cuh"
#include "sums.cuh"

namespace needle {

template <class T>
__device__ T lowest() {
  if constexpr (is_same<T, float>)
    return -__int_as_float(0x7f800000);
  else if constexpr (is_same<T, double>)
    return -__longlong_as_double(0x7ffll << 52);
  else if constexpr (is_same<T, int32_t>)
    return T(1u << 31);
  else if constexpr (is_same<T, int64_t>)
    return T(1ull << 63);
  else
    return T(0);
}
template <class T>
__device__ T highest() {
  if constexpr (is_float<T>)
    return -lowest<T>();
  else if constexpr (is_signed<T>)
    return T(-(lowest<T>() + 1));
  else
    return T(~T(0));
}
template <>
__device__ inline bool highest<bool>() {
  return true;
}

struct Sum {
  template <class T>
  static __device__ T identity() {
    return T(0);
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Product {
  template <class T>
  static __device__ T identity() {
    return T(1);
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a * b;
  }
};
struct Max {
  template <class T>
  static __device__ T identity() {
    return lowest<T>();
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return f::maximum(a, b);
  }
};
struct Min {
  template <class T>
  static __device__ T identity() {
    return highest<T>();
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return f::minimum(a, b);
  }
};

// Reduces the values of a thread one after the other. Sums are compensated; sums of at most a few
// dozen values (not LONG) are plain.
template <class Combine, class T, bool LONG = true>
struct Accumulator {
  T all = Combine::template identity<T>();

  __device__ void add(T x) { all = Combine{}(all, x); }
  __device__ T value() const { return all; }
};
template <class T>
struct Accumulator<Sum, T, true> : RunningSum<T> {};

constexpr int LOADS = 4;  // loads that a thread has in flight at a time

// Reduces the packs first, first + step, … below end with `combine`.
template <class A, class Combine, class Read>
__device__ A over_packs(Combine combine, int64_t first, int64_t end, int64_t step, Read read) {
  using Loaded = decltype(read(first));
  constexpr int W = sizeof(Loaded::item) / sizeof(Loaded::item[0]);
  Accumulator<Combine, A> all;
  int64_t i = first;
  for (; i + (LOADS - 1) * step < end; i += LOADS * step) {
    Loaded x[LOADS];
#pragma unroll
    for (int j = 0; j < LOADS; ++j) x[j] = read(i + j * step);
    A some = Combine::template identity<A>();
#pragma unroll
    for (int j = 0; j < LOADS; ++j) {
#pragma unroll
      for (int k = 0; k < W; ++k) some = combine(some, static_cast<A>(x[j].item[k]));
    }
    all.add(some);
  }
  for (; i < end; i += step) {
    const Loaded x = read(i);
    A some = Combine::template identity<A>();
#pragma unroll
    for (int k = 0; k < W; ++k) some = combine(some, static_cast<A>(x.item[k]));
    all.add(some);
  }
  return all.value();
}

// The elements that one part of a reduction takes: of the `count` elements that are reduced to
// result number `result`, those in [begin, end), at addresses relative to `start`. `kept` and
// `reduced` are the axes of x that are kept and reduced, each with the fastest-varying axis last.
template <class Index, int K, int R, class T>
struct Share {
  const Shape<R>& reduced;
  const Array<const T, R>& along;
  const T* start;
  int64_t begin, end;

  __device__ Share(int64_t result, int64_t part, int64_t parts, const Shape<K>& kept,
                   const Array<const T, K>& x, int64_t count, const Shape<R>& reduced,
                   const Array<const T, R>& along)
      : reduced(reduced),
        along(along),
        begin(count * part / parts),
        end(count * (part + 1) / parts) {
    Index index[K];
    unravel(static_cast<Index>(result), kept, index);
    start = &x.at(index);
  }
  __device__ Pack<T, 1> operator()(int64_t j) const {
    Index inner[R];
    unravel(static_cast<Index>(j), reduced, inner);
    return {start[&along.at(inner) - along.data]};
  }
};

// One thread block per result: its threads stride over the reduced elements, then combine their
// partial results. Part p of result i goes to out[p, i]. W > 1 requires that the reduced elements
// of a result are contiguous and form a whole number of aligned packs.
template <int W, class Combine, class A, class Index, int K, int R, class T>
__device__ void reduce_blocks(Combine combine, int64_t results, const Shape<K>& kept,
                              const Array<const T, K>& x, int64_t count, const Shape<R>& reduced,
                              const Array<const T, R>& along, int64_t parts, A* out) {
  const A identity = Combine::template identity<A>();
  for (int64_t job = blockIdx.x; job < results * parts; job += gridDim.x) {
    const Share<Index, K, R, T> share(job % results, job / results, parts, kept, x, count / W,
                                      reduced, along);
    const int64_t first = share.begin + threadIdx.x;
    A value;
    if constexpr (W > 1) {
      const auto* packs = reinterpret_cast<const Pack<T, W>*>(share.start);
      value =
          over_packs<A>(combine, first, share.end, blockDim.x, [&](int64_t j) { return packs[j]; });
    } else {
      value = over_packs<A>(combine, first, share.end, blockDim.x, share);
    }
    value = over_block(value, identity, combine);
    if (threadIdx.x == 0) out[job] = value;
  }
}

// One thread per result, for arrays whose kept axes vary fastest: neighbouring threads read
// neighbouring elements, so that accesses are coalesced. Part p of result i goes to out[p, i].
template <class Combine, class A, class Index, int K, int R, class T>
__device__ void reduce_threads(Combine combine, int64_t results, const Shape<K>& kept,
                               const Array<const T, K>& x, int64_t count, const Shape<R>& reduced,
                               const Array<const T, R>& along, int64_t parts, A* out) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t job = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; job < results * parts;
       job += step) {
    const Share<Index, K, R, T> share(job % results, job / results, parts, kept, x, count, reduced,
                                      along);
    out[job] = over_packs<A>(combine, share.begin, share.end, int64_t(1), share);
  }
}

// ---- along one axis ---------------------------------------------------------------------------

// A line is the elements along one axis; `kept` are the other axes. Each thread block processes one
// line at a time.
template <class T>
struct Best {
  T value;
  int64_t index;
};

template <bool LARGEST, class T>
__device__ Best<T> better(const Best<T>& a, const Best<T>& b) {
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  bool first;
  if (a_nan || b_nan)
    first = a_nan && (!b_nan || a.index < b.index);
  else if (a.value == b.value)
    first = a.index < b.index;
  else
    first = LARGEST ? a.value > b.value : a.value < b.value;
  return first ? a : b;
}

template <bool LARGEST, int N, class T>
__device__ void argreduce(int64_t lines, const Shape<N>& kept, const Array<const T, N>& x,
                          int64_t length, int64_t stride, const Array<int64_t, N>& out) {
  __shared__ Best<T> parts[1024];
  for (int64_t line = blockIdx.x; line < lines; line += gridDim.x) {
    int64_t index[N];
    unravel(line, kept, index);
    const T* start = &x.at(index);
    Best<T> best{start[0], 0};
    for (int64_t j = threadIdx.x; j < length; j += blockDim.x) {
      best = better<LARGEST>(best, Best<T>{start[j * stride], j});
    }
    parts[threadIdx.x] = best;
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
      __syncthreads();
      if (threadIdx.x < step) {
        parts[threadIdx.x] = better<LARGEST>(parts[threadIdx.x], parts[threadIdx.x + step]);
      }
    }
    if (threadIdx.x == 0) out.at(index) = parts[0].index;
    __syncthreads();
  }
}

// Cumulative sums. A block processes its line in pieces of one element per thread and carries the
// total, with compensation, from piece to piece. Within a piece it does a parallel scan with steps
// of doubling length (Hillis and Steele, "Data parallel algorithms", 1986).
template <int N, class T>
__device__ void cumsum(int64_t lines, const Shape<N>& kept, const Array<const T, N>& x,
                       int64_t length, int64_t x_stride, const Array<T, N>& out,
                       int64_t out_stride) {
  __shared__ T sums[1024];
  for (int64_t line = blockIdx.x; line < lines; line += gridDim.x) {
    int64_t index[N];
    unravel(line, kept, index);
    const T* from = &x.at(index);
    T* to = &out.at(index);
    RunningSum<T> carry;
    for (int64_t start = 0; start < length; start += blockDim.x) {
      const int64_t j = start + threadIdx.x;
      T value = j < length ? from[j * x_stride] : T(0);
      for (unsigned step = 1; step < blockDim.x; step *= 2) {
        sums[threadIdx.x] = value;
        __syncthreads();
        if (threadIdx.x >= step) value += sums[threadIdx.x - step];
        __syncthreads();
      }
      sums[threadIdx.x] = value;
      __syncthreads();
      RunningSum<T> here = carry;
      here.add(value);
      if (j < length) to[j * out_stride] = here.value();
      carry.add(sums[blockDim.x - 1]);
      __syncthreads();
    }
  }
}

// A stable argsort of each line, by a bitonic sorting network (Batcher, 1968) on indices in global
// memory. `order` has `padded` elements per line, a power of two. Equal elements compare by their
// index, which makes the sort stable. A NaN is larger than all numbers.
template <bool DESCENDING, int N, class T>
__device__ void argsort(int64_t lines, const Shape<N>& kept, const Array<const T, N>& x,
                        int64_t length, int64_t x_stride, int64_t padded, int64_t* order,
                        const Array<int64_t, N>& out, int64_t out_stride) {
  for (int64_t line = blockIdx.x; line < lines; line += gridDim.x) {
    int64_t index[N];
    unravel(line, kept, index);
    const T* from = &x.at(index);
    int64_t* mine = order + line * padded;
    const auto before = [&](int64_t a, int64_t b) {  // indices beyond the end come last
      if (a >= length || b >= length) return a < b;
      const T p = from[a * x_stride], q = from[b * x_stride];
      const bool p_nan = p != p, q_nan = q != q;
      if (p_nan || q_nan) return p_nan == q_nan ? a < b : p_nan == DESCENDING;
      if (p == q) return a < b;
      return DESCENDING ? p > q : p < q;
    };
    for (int64_t j = threadIdx.x; j < padded; j += blockDim.x) mine[j] = j;
    for (int64_t size = 2; size <= padded; size *= 2) {
      for (int64_t step = size / 2; step > 0; step /= 2) {
        __syncthreads();
        for (int64_t j = threadIdx.x; j < padded; j += blockDim.x) {
          const int64_t other = j ^ step;
          if (other <= j) continue;
          const bool ascending = (j & size) == 0;
          if (before(mine[other], mine[j]) == ascending) {
            const int64_t swapped = mine[j];
            mine[j] = mine[other], mine[other] = swapped;
          }
        }
      }
    }
    __syncthreads();
    int64_t* to = &out.at(index);
    for (int64_t j = threadIdx.x; j < length; j += blockDim.x) to[j * out_stride] = mine[j];
    __syncthreads();
  }
}

}  // namespace needle
