// loops.h: traversal of several strided arrays of the same shape at once.
//
// A Nest merges neighbouring axes that are evenly spaced in every operand, so that most work is one
// long inner loop, a run. `for_each_run` calls the body once for each run, on several threads if
// that pays.
#pragma once

#include <cstdlib>

#include "../threads.h"
#include "../view.h"

namespace needle::NEEDLE_ISA {

// Reads an integer that another thread may be changing exactly once, so that the checked value is
// the value that is used.
inline int64_t read_once(const int64_t* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }

template <int N>
struct Nest {
  int ndim;  // at least 1
  int64_t size;
  int64_t shape[MAX_DIMS];
  int64_t strides[N][MAX_DIMS];  // in bytes
  char* data[N];
};

template <int N>
bool mergeable(const Nest<N>& nest, int outer, const int64_t (&inner)[N], int64_t length) {
  for (int k = 0; k < N; ++k) {
    if (nest.strides[k][outer] != inner[k] * length) return false;
  }
  return true;
}

// The axes of `view` from the largest stride to the smallest, which is their order in memory.
inline void sort_axes(const View& view, int (&order)[MAX_DIMS]) {
  for (int i = 0; i < view.ndim; ++i) {
    int at = i;
    const int64_t step = std::abs(view.strides[i]);
    for (; at > 0 && std::abs(view.strides[order[at - 1]]) < step; --at) order[at] = order[at - 1];
    order[at] = i;
  }
}

// The axes are traversed in the order of the first view's memory. Axes of length 1 are dropped. An
// axis is merged with its outer neighbour if the strides of all operands allow it.
template <int N>
Nest<N> make_nest(const View* const (&views)[N]) {
  Nest<N> nest;  // whose arrays are mostly unused
  nest.ndim = 0;
  nest.size = 1;
  for (int k = 0; k < N; ++k) nest.data[k] = views[k]->data;
  const View& first = *views[0];
  int order[MAX_DIMS];
  sort_axes(first, order);
  for (int i = 0; i < first.ndim; ++i) {
    const int axis = order[i];
    const int64_t length = first.shape[axis];
    nest.size *= length;
    if (length == 1) continue;
    int64_t strides[N];
    for (int k = 0; k < N; ++k) strides[k] = views[k]->strides[axis] * item_size(views[k]->dtype);
    if (nest.ndim > 0 && mergeable<N>(nest, nest.ndim - 1, strides, length)) {
      nest.shape[nest.ndim - 1] *= length;
    } else {
      nest.shape[nest.ndim++] = length;
    }
    for (int k = 0; k < N; ++k) nest.strides[k][nest.ndim - 1] = strides[k];
  }
  if (nest.ndim == 0) {
    nest.ndim = 1;
    nest.shape[0] = 1;
    for (int k = 0; k < N; ++k) nest.strides[k][0] = 0;
  }
  return nest;
}

// Calls body(pointers, n) for the runs number `begin` … `end` - 1, in row-major order. The operands
// begin at `data`.
template <int N, typename Body>
void walk_runs(const Nest<N>& nest, char* const (&data)[N], int64_t begin, int64_t end,
               const Body& body) {
  const int inner = nest.ndim - 1;
  int64_t index[MAX_DIMS];
  char* at[N];
  for (int k = 0; k < N; ++k) at[k] = data[k];
  int64_t rest = begin;
  for (int axis = inner - 1; axis >= 0; --axis) {
    index[axis] = rest % nest.shape[axis];
    rest /= nest.shape[axis];
    for (int k = 0; k < N; ++k) at[k] += index[axis] * nest.strides[k][axis];
  }
  for (int64_t run = begin; run < end; ++run) {
    body(at, nest.shape[inner]);
    for (int axis = inner - 1; axis >= 0; --axis) {
      for (int k = 0; k < N; ++k) at[k] += nest.strides[k][axis];
      if (++index[axis] < nest.shape[axis]) break;
      for (int k = 0; k < N; ++k) at[k] -= nest.strides[k][axis] * nest.shape[axis];
      index[axis] = 0;
    }
  }
}

// Calls body(pointers, n) for every run. `cost` is the cost of one element relative to a plain
// copy.
template <int N, typename Body>
void for_each_run(const Nest<N>& nest, int64_t cost, const Body& body) {
  if (nest.size == 0) return;
  const int64_t length = nest.shape[nest.ndim - 1], runs = nest.size / length;
  if (runs > 1) {
    parallel_range(runs, cost * length, [&](int64_t begin, int64_t end) {
      walk_runs<N>(nest, nest.data, begin, end, body);
    });
    return;
  }
  parallel_range(length, cost, [&](int64_t begin, int64_t end) {
    char* at[N];
    for (int k = 0; k < N; ++k) at[k] = nest.data[k] + begin * nest.strides[k][nest.ndim - 1];
    body(at, end - begin);
  });
}

}  // namespace needle::NEEDLE_ISA
