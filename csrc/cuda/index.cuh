// index.cuh: gather of the rows of a matrix by an index, and scatter-add, which is its transpose.
//
// Contract: `x` is (rows, columns) with any strides. `index` is a flat int64 array; negative
// indices count from the end. The position of the first index that is out of range is written to
// `bad`, and no element is read or written for such an index.
#pragma once

#include "sums.cuh"

namespace needle {

__device__ inline int64_t checked_row(int64_t row, int64_t rows, int64_t position,
                                      unsigned long long* bad) {
  if (row < -rows || row >= rows) {
    atomicMin(bad, static_cast<unsigned long long>(position));
    return -1;
  }
  return row < 0 ? row + rows : row;
}

template <class T>
__device__ void gather_rows(int64_t count, int64_t columns, int64_t rows,
                            const Array<const T, 2>& x, const int64_t* index,
                            const Array<T, 2>& out, unsigned long long* bad) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count * columns; i += step) {
    const int64_t to[2] = {i / columns, i % columns};
    const int64_t row = checked_row(index[to[0]], rows, to[0], bad);
    const int64_t from[2] = {row, to[1]};
    if (row >= 0) out.at(to) = x.at(from);
  }
}

// Reports an index that is out of range, before another kernel writes anything.
__device__ inline void check_rows(int64_t count, int64_t rows, const int64_t* index,
                                  unsigned long long* bad) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    checked_row(index[i], rows, i, bad);
  }
}

// out[index[i]] += src[i] for a non-negative index; indices that are out of range are skipped.
// `order` is a stable argsort of the index. The thread at the first position of a run of equal
// indices adds the whole run in order. No atomics are needed, and the sums do not depend on the
// order in which threads run. Sums of floats are within 2·u·Σ|x| of the exact ones, whatever the
// length of the run.
template <class T>
__device__ void scatter_add_rows(int64_t count, int64_t columns, int64_t rows,
                                 const Array<T, 2>& out, const int64_t* index, const int64_t* order,
                                 const Array<const T, 2>& src) {
  const auto row_at = [&](int64_t place) { return index[order[place]]; };
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count * columns; i += step) {
    const int64_t place = i / columns, column = i % columns, row = row_at(place);
    if (row < 0 || row >= rows || (place > 0 && row_at(place - 1) == row)) continue;
    const int64_t to[2] = {row, column};
    RunningSum<T> sum{out.at(to)};
    for (int64_t p = place; p < count && row_at(p) == row; ++p) {
      const int64_t from[2] = {order[p], column};
      sum.add(src.at(from));
    }
    out.at(to) = sum.value();
  }
}

}  // namespace needle
