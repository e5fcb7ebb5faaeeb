// reduce.h: sum, prod, max, min over any axes; argmax and argmin; cumulative sums.
//
// Contract: `axes` is a bit mask; `out` has x's shape, except that the reduced axes have length 1.
// Sums and products of integers and bools are int64. max, min, argmax and argmin propagate NaN. For
// a fixed number of threads the order of additions is fixed. Sums have the error that sums.h
// states. A cumulative sum of up to 1,024 numbers is rounded once for each addition.
//
// Idea: if x is contiguous along a reduced axis, each result is a SIMD reduction of contiguous
// runs. If x is contiguous along a kept axis, whole rows are added to a row of accumulators. Bound:
// memory bandwidth.
#pragma once

#include <cstring>

#include "../simd.h"
#include "elementwise.h"
#include "functions.h"
#include "loops.h"
#include "sums.h"
#include "vectors.h"

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
  if constexpr (OP == ReduceOp::sum && std::is_integral_v<V>)
    return f::add<V>(a, b);  // wraps around
  else if constexpr (OP == ReduceOp::sum)
    return a + b;
  else if constexpr (OP == ReduceOp::prod && std::is_integral_v<V>)
    return f::mul<V>(a, b);
  else if constexpr (OP == ReduceOp::prod)
    return a * b;
  else if constexpr (OP == ReduceOp::max)
    return (a > b) | (a != a) ? a : b;
  else
    return (a < b) | (a != a) ? a : b;
}

// Combines partial results; sums are compensated. V is a number or a vector.
template <ReduceOp OP, typename V, typename Element = V>
class Total {
 public:
  [[gnu::always_inline]] void add(V x) {
    if constexpr (OP == ReduceOp::sum && std::is_floating_point_v<Element>)
      add_compensated(value_, lost_, x);
    else
      value_ = combine<OP>(value_, x);
  }
  V value() const { return value_; }

 private:
  V value_ = V{} + identity<OP, Element>(), lost_ = {};
};

// Reduces a contiguous run, with four vectors of accumulators.
template <ReduceOp OP, typename T>
T reduce_block(const T* p, int64_t n) {
  using Vector = vectors::Vector<T, REGISTER_BYTES>;
  constexpr int64_t LANES = REGISTER_BYTES / sizeof(T), STEP = 4 * LANES;
  T block = identity<OP, T>();
  int64_t i = 0;
  if (n >= STEP) {
    Vector part[4];
    for (Vector& v : part) v = Vector{} + identity<OP, T>();
    for (; i + STEP <= n; i += STEP) {
      for (int k = 0; k < 4; ++k)
        part[k] = combine<OP>(part[k], vectors::load<Vector>(p + i + k * LANES));
    }
    const Vector joined = combine<OP>(combine<OP>(part[0], part[1]), combine<OP>(part[2], part[3]));
    for (int k = 0; k < LANES; ++k) block = combine<OP, T>(block, joined[k]);
  }
  for (; i < n; ++i) block = combine<OP, T>(block, p[i]);
  return block;
}

// Reduces a contiguous run of floats; long sums are added in blocks.
template <ReduceOp OP, typename T>
T reduce_floats(const T* p, int64_t n) {
  constexpr int64_t BLOCK = 64 * 4 * REGISTER_BYTES / sizeof(T);
  if (OP != ReduceOp::sum || n <= BLOCK) return reduce_block<OP, T>(p, n);
  Total<OP, T> total;
  for (; n > 0; p += BLOCK, n -= BLOCK) total.add(reduce_block<OP, T>(p, std::min(n, BLOCK)));
  return total.value();
}

// Reduces n numbers that are `stride` bytes apart.
template <ReduceOp OP, typename T>
accumulator<T> reduce_run(const char* data, int64_t n, int64_t stride) {
  using A = accumulator<T>;
  if constexpr (std::is_floating_point_v<T>) {
    if (stride == sizeof(T)) return reduce_floats<OP, T>(reinterpret_cast<const T*>(data), n);
  }
  const auto take = [&](A& to) {
    to = combine<OP, A>(to, static_cast<A>(*reinterpret_cast<const T*>(data)));
    data += stride;
  };
  A result = identity<OP, A>();
  constexpr int64_t COUNT = 4, BLOCK = 16 * COUNT;
  if constexpr (OP == ReduceOp::sum && std::is_floating_point_v<T>) {
    if (n >= BLOCK) {
      Total<OP, A> total;
      for (; n >= BLOCK; n -= BLOCK) {
        A part[COUNT] = {};
        for (int64_t i = 0; i < BLOCK; i += COUNT)
          for (A& p : part) take(p);
        total.add((part[0] + part[1]) + (part[2] + part[3]));
      }
      while (--n >= 0) take(result);
      total.add(result);
      return total.value();
    }
  }
  while (--n >= 0) take(result);
  return result;
}

// The axes of x in two groups, kept and reduced. Axes of a group are merged where possible.
// `reduced` has one operand, x.
struct Split {
  Nest<2> kept;     // operands: out, x
  Nest<1> reduced;  // operand: x
};

inline Split split_axes(const View& x, unsigned axes, const View& out) {
  View kept_x, kept_out, reduced;
  kept_x.ndim = kept_out.ndim = reduced.ndim = 0;
  kept_x.data = reduced.data = x.data;
  kept_x.dtype = reduced.dtype = x.dtype;
  kept_out.data = out.data;
  kept_out.dtype = out.dtype;
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

// Computes one result: reduces all runs of the reduced axes, starting at `x`.
template <ReduceOp OP, typename T>
accumulator<T> reduce_element(const Nest<1>& reduced, char* x) {
  const int inner = reduced.ndim - 1;
  if (inner == 0) return reduce_run<OP, T>(x, reduced.size, reduced.strides[0][0]);
  constexpr int64_t BLOCK = 16;  // runs, which may be short
  Total<OP, accumulator<T>> total;
  auto block = identity<OP, accumulator<T>>();
  int64_t left = BLOCK;
  char* const data[] = {x};
  const int64_t runs = reduced.size / reduced.shape[inner];
  walk_runs<1>(reduced, data, 0, runs, [&](char* const* at, int64_t n) {
    block =
        combine<OP, accumulator<T>>(block, reduce_run<OP, T>(at[0], n, reduced.strides[0][inner]));
    if (--left > 0) return;
    total.add(block);
    block = identity<OP, accumulator<T>>();
    left = BLOCK;
  });
  total.add(block);
  return total.value();
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

// Combines the rows of x, which are contiguous along the kept axis, into a row of results. For
// sums, ROWS_AT_ONCE rows are added as a tree, these sums are added in blocks, and the blocks are
// added with compensation.
template <ReduceOp OP, typename T>
void reduce_columns(const Nest<1>& reduced, const char* x, T* __restrict out, int64_t n) {
  constexpr bool SUM = OP == ReduceOp::sum;
  const int inner = reduced.ndim - 1;
  const int64_t step = reduced.strides[0][inner] / static_cast<int64_t>(sizeof(T));
  const bool is_long = SUM && reduced.size > ROWS_OF_BLOCK;
  const auto two = [](T a, T b) { return combine<OP, T>(a, b); };
  T block[COLUMNS_AT_ONCE], lost[COLUMNS_AT_ONCE];
  for (int64_t j0 = 0; j0 < n; j0 += COLUMNS_AT_ONCE) {
    const int64_t width = std::min(COLUMNS_AT_ONCE, n - j0);
    std::fill_n(block, width, identity<OP, T>());
    if (is_long) {
      std::fill_n(out + j0, width, T(0));
      std::fill_n(lost, width, T(0));
    }
    int64_t in_block = 0;
    const auto add_block = [&] {
      for (int64_t j = 0; j < width; ++j) add_compensated(out[j0 + j], lost[j], block[j]);
      std::fill_n(block, width, T(0));
      in_block = 0;
    };
    char* const data[] = {const_cast<char*>(x) + j0 * sizeof(T)};
    walk_runs<1>(
        reduced, data, 0, reduced.size / reduced.shape[inner], [&](char* const* at, int64_t rows) {
          const T* __restrict row = reinterpret_cast<const T*>(at[0]);
          for (; SUM && rows >= ROWS_AT_ONCE; rows -= ROWS_AT_ONCE, row += ROWS_AT_ONCE * step) {
            for (int64_t j = 0; j < width; ++j)
              block[j] = two(block[j], tree(two, [&](int64_t r) { return row[j + r * step]; }));
            if ((in_block += ROWS_AT_ONCE) >= ROWS_OF_BLOCK && is_long) add_block();
          }
          for (; rows > 0; --rows, row += step) {
            for (int64_t j = 0; j < width; ++j) block[j] = two(block[j], row[j]);
            if (++in_block >= ROWS_OF_BLOCK && is_long) add_block();
          }
        });
    if (is_long)
      add_block();
    else
      std::copy_n(block, width, out + j0);
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
  if (split.reduced.size == 0) {  // nothing to reduce: the traversal would divide by zero
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

// Calls body(pointers to the first elements) for every lane along `axis`, that is, for every 1-d
// slice. The N views have x's shape, except that the `out` of a reduction has length 1 along the
// axis.
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
  constexpr int64_t SHORT = 1024, BLOCK = 128;
  const View* views[] = {&x, &out};
  const int64_t n = x.shape[axis];
  NEEDLE_DISPATCH(x.dtype, {
    const int64_t sx = x.strides[axis] * static_cast<int64_t>(sizeof(T));
    const int64_t so = out.strides[axis] * static_cast<int64_t>(sizeof(T));
    // out = before + the cumulative sums of x over [first, last). Returns the last cumulative sum,
    // without `before`.
    const auto run = [=](char* const* lane, int64_t first, int64_t last, auto... before) {
      T sum = T(0);
      for (int64_t i = first; i < last; ++i) {
        sum = f::add<T>(sum, *reinterpret_cast<const T*>(lane[0] + i * sx));
        T& to = *reinterpret_cast<T*>(lane[1] + i * so);
        if constexpr (sizeof...(before) > 0)
          to = f::add<T>(before..., sum);
        else
          to = sum;
      }
      return sum;
    };
    for_each_lane<2>(views, axis, [&](char* const* lane) {
      if (n <= SHORT) {
        run(lane, 0, n);
        return;
      }
      Total<ReduceOp::sum, T> before;
      for (int64_t i = 0; i < n; i += BLOCK)
        before.add(run(lane, i, std::min(i + BLOCK, n), before.value()));
    });
  })
}

}  // namespace needle::NEEDLE_ISA
