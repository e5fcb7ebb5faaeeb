// reduce.h: sum, prod, max, min over any axes; argmax and argmin; running sums.
//
// Contract: `axes` is a bit mask, `out` has x's shape with those axes of length 1. Sums and
// products of integers and bools are int64. NaN wins max, min, argmax and argmin. For a fixed
// number of threads the order of additions is fixed.
//
// Idea: if x is contiguous along a reduced axis, each result is a SIMD reduction of runs; if it is
// contiguous along a kept axis, whole rows are added to a row of results. Bound: memory bandwidth.
#pragma once

#include <cstring>

#include "../simd.h"
#include "elementwise.h"
#include "functions.h"
#include "loops.h"

namespace needle::NEEDLE_ISA {

template <typename T>
using accumulator = std::conditional_t<std::is_floating_point_v<T>, T, int64_t>;

template <ReduceOp OP, typename A>
constexpr A identity() {
  if constexpr (OP == ReduceOp::sum)
    return A(0);
  else if constexpr (OP == ReduceOp::prod)
    return A(1);
  else if constexpr (OP == ReduceOp::max) {
    return std::numeric_limits<A>::has_infinity ? -std::numeric_limits<A>::infinity()
                                                : std::numeric_limits<A>::lowest();
  } else {
    return std::numeric_limits<A>::has_infinity ? std::numeric_limits<A>::infinity()
                                                : std::numeric_limits<A>::max();
  }
}

// Vectors of floats have the same operators as floats, so one definition serves both.
template <ReduceOp OP, typename V>
inline V combine(V a, V b) {
  if constexpr (OP == ReduceOp::sum)
    return a + b;
  else if constexpr (OP == ReduceOp::prod)
    return a * b;
  else if constexpr (OP == ReduceOp::max)
    return (a > b) | (a != a) ? a : b;
  else
    return (a < b) | (a != a) ? a : b;
}

// A contiguous run of floats into one value, in four vectors of partial results. Blocks of a few
// thousand elements bound the rounding error of long sums.
template <ReduceOp OP, typename T>
T reduce_floats(const T* p, int64_t n) {
  typedef T Vector __attribute__((vector_size(REGISTER_BYTES)));
  constexpr int64_t LANES = REGISTER_BYTES / sizeof(T), STEP = 4 * LANES, BLOCK = 64 * STEP;
  T total = identity<OP, T>();
  for (int64_t begin = 0; begin < n; begin += BLOCK) {
    const int64_t end = std::min(begin + BLOCK, n);
    Vector part[4];
    for (Vector& v : part) v = Vector{} + identity<OP, T>();
    int64_t i = begin;
    for (; i + STEP <= end; i += STEP) {
      for (int k = 0; k < 4; ++k) {
        Vector v;
        std::memcpy(&v, p + i + k * LANES, sizeof v);
        part[k] = combine<OP>(part[k], v);
      }
    }
    const Vector joined = combine<OP>(combine<OP>(part[0], part[1]), combine<OP>(part[2], part[3]));
    T block = identity<OP, T>();
    for (int k = 0; k < LANES; ++k) block = combine<OP, T>(block, joined[k]);
    for (; i < end; ++i) block = combine<OP, T>(block, p[i]);
    total = combine<OP, T>(total, block);
  }
  return total;
}

template <ReduceOp OP, typename T>
accumulator<T> reduce_run(const char* data, int64_t n, int64_t stride) {
  if constexpr (std::is_floating_point_v<T>) {
    if (stride == sizeof(T)) return reduce_floats<OP, T>(reinterpret_cast<const T*>(data), n);
  }
  auto total = identity<OP, accumulator<T>>();
  for (int64_t i = 0; i < n; ++i) {
    total = combine<OP, accumulator<T>>(
        total, static_cast<accumulator<T>>(*reinterpret_cast<const T*>(data + i * stride)));
  }
  return total;
}

// x's axes in two groups, each merged where possible. One operand: the layout of x alone.
struct Split {
  Nest<2> kept;     // out, x
  Nest<1> reduced;  // x
};

inline Split split_axes(const View& x, unsigned axes, const View& out) {
  View kept_x = x, kept_out = out, reduced = x;
  kept_x.ndim = kept_out.ndim = reduced.ndim = 0;
  for (int axis = 0; axis < x.ndim; ++axis) {
    View& group = axes >> axis & 1 ? reduced : kept_x;
    if (!(axes >> axis & 1)) {
      kept_out.shape[kept_out.ndim] = x.shape[axis];
      kept_out.strides[kept_out.ndim++] = out.strides[axis];
    }
    group.shape[group.ndim] = x.shape[axis];
    group.strides[group.ndim++] = x.strides[axis];
  }
  const View* kept_views[] = {&kept_out, &kept_x};
  const View* reduced_views[] = {&reduced};
  return {make_nest<2>(kept_views), make_nest<1>(reduced_views)};
}

// One result: all runs of the reduced axes, starting at `x`.
template <ReduceOp OP, typename T>
accumulator<T> reduce_element(Nest<1> reduced, char* x) {
  reduced.data[0] = x;
  const int inner = reduced.ndim - 1;
  auto total = identity<OP, accumulator<T>>();
  walk_runs<1>(reduced, 0, reduced.size / reduced.shape[inner], [&](char* const* at, int64_t n) {
    total =
        combine<OP, accumulator<T>>(total, reduce_run<OP, T>(at[0], n, reduced.strides[0][inner]));
  });
  return total;
}

template <ReduceOp OP, typename T, typename Out>
void reduce_elements(const Split& split) {
  const int inner = split.kept.ndim - 1;
  const int64_t so = split.kept.strides[0][inner], sx = split.kept.strides[1][inner];
  for_each_run<2>(split.kept, split.reduced.size, [&](char* const* at, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      *reinterpret_cast<Out*>(at[0] + i * so) =
          static_cast<Out>(reduce_element<OP, T>(split.reduced, at[1] + i * sx));
    }
  });
}

// Rows of x, contiguous along the kept axis, combined into a row of results. Rows are first
// combined in groups, which bounds the rounding error of a sum over many rows.
template <ReduceOp OP, typename T>
void reduce_columns(Nest<1> reduced, const char* x, T* __restrict out, int64_t n) {
  constexpr int64_t COLUMNS = 512, GROUP = 64;
  const int inner = reduced.ndim - 1;
  T group[COLUMNS];
  for (int64_t j0 = 0; j0 < n; j0 += COLUMNS) {
    const int64_t width = std::min(COLUMNS, n - j0);
    T* __restrict o = out + j0;
    for (int64_t j = 0; j < width; ++j) o[j] = group[j] = identity<OP, T>();
    int64_t in_group = 0;
    const auto flush = [&] {
      for (int64_t j = 0; j < width; ++j) o[j] = combine<OP, T>(o[j], group[j]);
      for (int64_t j = 0; j < width; ++j) group[j] = identity<OP, T>();
      in_group = 0;
    };
    reduced.data[0] = const_cast<char*>(x) + j0 * sizeof(T);
    walk_runs<1>(reduced, 0, reduced.size / reduced.shape[inner],
                 [&](char* const* at, int64_t rows) {
                   for (int64_t i = 0; i < rows; ++i) {
                     const T* __restrict row =
                         reinterpret_cast<const T*>(at[0] + i * reduced.strides[0][inner]);
                     for (int64_t j = 0; j < width; ++j)
                       group[j] = combine<OP, T>(group[j], row[j]);
                     if (++in_group == GROUP) flush();
                   }
                 });
    flush();
  }
}

template <ReduceOp OP, typename T>
void reduce_rows(const Split& split) {
  for_each_run<2>(split.kept, split.reduced.size, [&](char* const* at, int64_t n) {
    reduce_columns<OP, T>(split.reduced, at[1], reinterpret_cast<T*>(at[0]), n);
  });
}

template <ReduceOp OP, typename T>
void reduce_as(const View& x, unsigned axes, const View& out) {
  using Out = std::conditional_t<OP == ReduceOp::sum || OP == ReduceOp::prod, accumulator<T>, T>;
  const Split split = split_axes(x, axes, out);
  if constexpr (std::is_floating_point_v<T>) {
    const int inner = split.kept.ndim - 1;
    if (split.kept.shape[inner] > 1 && split.kept.strides[0][inner] == sizeof(T) &&
        split.kept.strides[1][inner] == sizeof(T) && split.reduced.size > 0) {
      reduce_rows<OP, T>(split);
      return;
    }
  }
  if (split.reduced.size == 0) {  // nothing to reduce: walking it would divide by zero
    Scalar value{static_cast<double>(identity<OP, double>()), identity<OP, int64_t>()};
    fill(out, value);
    return;
  }
  reduce_elements<OP, T, Out>(split);
}

template <typename T>
void reduce_by(ReduceOp op, const View& x, unsigned axes, const View& out) {
  switch (op) {
#define NEEDLE_CASE(name)                       \
  case ReduceOp::name:                          \
    reduce_as<ReduceOp::name, T>(x, axes, out); \
    break;
    NEEDLE_REDUCE_OPS(NEEDLE_CASE)
#undef NEEDLE_CASE
  }
}

inline void reduce(ReduceOp op, const View& x, unsigned axes, const View& out) {
  NEEDLE_DISPATCH(x.dtype, reduce_by<T>(op, x, axes, out))
}

// Calls body(pointers to the lanes' first elements) for every lane along `axis`. N views of x's
// shape, except that `out` of a reduction has length 1 along the axis.
template <int N, typename Body>
void for_each_lane(const View* const (&views)[N], int axis, const Body& body) {
  View lanes[N];
  const View* pointers[N];
  for (int k = 0; k < N; ++k) {
    lanes[k] = *views[k];
    for (int i = 0; i < lanes[k].ndim; ++i) lanes[k].shape[i] = i == axis ? 1 : views[0]->shape[i];
    pointers[k] = &lanes[k];
  }
  const Nest<N> nest = make_nest<N>(pointers);
  const int inner = nest.ndim - 1;
  for_each_run<N>(nest, views[0]->shape[axis] * 4, [&](char* const* at, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      char* first[N];
      for (int k = 0; k < N; ++k) first[k] = at[k] + i * nest.strides[k][inner];
      body(first);
    }
  });
}

inline void argreduce(bool largest, const View& x, int axis, const View& out) {
  const View* views[] = {&x, &out};
  const int64_t n = x.shape[axis];
  NEEDLE_DISPATCH(x.dtype, {
    const int64_t step = x.strides[axis] * static_cast<int64_t>(sizeof(T));
    for_each_lane<2>(views, axis, [&](char* const* lane) {
      int64_t best = 0;
      T value = *reinterpret_cast<const T*>(lane[0]);
      for (int64_t i = 1; i < n && value == value; ++i) {
        const T other = *reinterpret_cast<const T*>(lane[0] + i * step);
        if ((largest ? other > value : other < value) || other != other) {
          best = i;
          value = other;
        }
      }
      *reinterpret_cast<int64_t*>(lane[1]) = best;
    });
  })
}

inline void cumsum(const View& x, int axis, const View& out) {
  const View* views[] = {&x, &out};
  const int64_t n = x.shape[axis];
  NEEDLE_DISPATCH(x.dtype, {
    const int64_t sx = x.strides[axis] * static_cast<int64_t>(sizeof(T));
    const int64_t so = out.strides[axis] * static_cast<int64_t>(sizeof(T));
    for_each_lane<2>(views, axis, [&](char* const* lane) {
      T total = T(0);
      for (int64_t i = 0; i < n; ++i) {
        total = f::add<T>(total, *reinterpret_cast<const T*>(lane[0] + i * sx));
        *reinterpret_cast<T*>(lane[1] + i * so) = total;
      }
    });
  })
}

}  // namespace needle::NEEDLE_ISA
