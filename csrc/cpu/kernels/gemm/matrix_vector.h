// matrix_vector.h: y = M v + bias, the matrix products whose result has one row or one column.
//
// Contract: M (rows, k) has a unit stride along one of its axes; v has k consecutive elements. y
// and the bias have any stride; y aliases no operand.
//
// Idea: if the rows of M are contiguous, each element of y is a dot product, and four of them are
// computed at a time. If the columns are contiguous, y is a weighted sum of columns.
//
// Bound: reading M once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../vectors.h"
#include "sizes.h"

namespace needle::NEEDLE_ISA {

namespace gemm_detail {

using vectors::load, vectors::Vector;

// A matrix in memory: element (i, j) is data[i * row + j * col].
template <typename T>
struct Matrix {
  const T* data;
  int64_t row, col;

  const T* at(int64_t i, int64_t j) const { return data + i * row + j * col; }
};

template <typename F>
void for_each_task(int threads, int64_t tasks, F&& task) {
  if (threads > 1) {
    parallel_for(static_cast<int>(tasks), task);
  } else {
    for (int64_t i = 0; i < tasks; ++i) task(static_cast<int>(i));
  }
}

template <typename T>
struct MatrixVector {
  int64_t rows, k;
  Matrix<T> matrix;
  const T* v;  // k consecutive elements
  T* y;
  int64_t y_stride;
  const T* bias;
  int64_t bias_stride;

  T init(int64_t i) const { return bias ? bias[i * bias_stride] : T(0); }
};

// For contiguous rows: dot products, ROWS at a time.
template <typename T, int ROWS>
void dot_rows(const MatrixVector<T>& x, int64_t i) {
  using V = Vector<T, REGISTER_BYTES>;
  constexpr int LANES = REGISTER_BYTES / sizeof(T);
  V sum[ROWS] = {};
  int64_t p = 0;
  for (; p + LANES <= x.k; p += LANES) {
    const V v = load<V>(x.v + p);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) sum[r] += load<V>(x.matrix.at(i + r, p)) * v;
  }
  for (int r = 0; r < ROWS; ++r) {
    T total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += sum[r][lane];
    for (int64_t q = p; q < x.k; ++q) total += *x.matrix.at(i + r, q) * x.v[q];
    x.y[(i + r) * x.y_stride] = total + x.init(i + r);
  }
}

// For contiguous columns: the weighted sum of the columns, four at a time, in a strip of y that
// stays in L1.
template <typename T>
void sum_columns(const MatrixVector<T>& x, int64_t first, int64_t last) {
  constexpr int64_t STRIP = 2048;
  alignas(64) T sum[STRIP];
  for (int64_t i = first; i < last; i += STRIP) {
    const int64_t rows = std::min(STRIP, last - i);
    std::fill_n(sum, rows, T(0));
    int64_t p = 0;
    for (; p + 4 <= x.k; p += 4) {
      const T *m0 = x.matrix.at(i, p), *m1 = x.matrix.at(i, p + 1), *m2 = x.matrix.at(i, p + 2),
              *m3 = x.matrix.at(i, p + 3);
      const T v0 = x.v[p], v1 = x.v[p + 1], v2 = x.v[p + 2], v3 = x.v[p + 3];
      for (int64_t r = 0; r < rows; ++r)
        sum[r] += m0[r] * v0 + m1[r] * v1 + m2[r] * v2 + m3[r] * v3;
    }
    for (; p < x.k; ++p)
      for (int64_t r = 0; r < rows; ++r) sum[r] += *x.matrix.at(i + r, p) * x.v[p];
    for (int64_t r = 0; r < rows; ++r) x.y[(i + r) * x.y_stride] = sum[r] + x.init(i + r);
  }
}

template <typename T>
void multiply_vector(const MatrixVector<T>& x, int threads) {
  const int64_t parts = std::min<int64_t>(threads, x.rows);
  for_each_task(threads, parts, [&](int part) {
    int64_t i = part_start(x.rows, parts, part);
    const int64_t last = part_start(x.rows, parts, part + 1);
    if (x.matrix.col != 1) return sum_columns(x, i, last);
    for (; i + 4 <= last; i += 4) dot_rows<T, 4>(x, i);
    for (; i < last; ++i) dot_rows<T, 1>(x, i);
  });
}
}  // namespace gemm_detail

}  // namespace needle::NEEDLE_ISA
