// columns.h: batch normalization, which needs the statistics of every column of a matrix.
//
// Contract: the operands are those of rows.h; sums have the error that sums.h states. Threads split
// the columns, so that no result depends on the number of threads. A block of columns is traversed
// row by row, which reads whole cache lines and vectorizes over the columns. Source: Ioffe &
// Szegedy 2015, "Batch Normalization", with its derivation of the gradient.
#pragma once

#include <memory>

#include "rows.h"

namespace needle::NEEDLE_ISA {

inline void batch_norm(const View& x, const View& weight, const View& bias, double eps,
                       const View& out, const View& mean, const View& var) {
  NEEDLE_DISPATCH_FLOAT(x.dtype, {
    const Rows2d<const T> rows(x);
    const Rows2d<T> results(out);
    const T* w = vector_data<const T>(weight);
    const T* b = vector_data<const T>(bias);
    T* m = vector_data<T>(mean);
    T* v = vector_data<T>(var);
    const T inverse = T(1) / rows.n;
    parallel_range(rows.c, rows.n * 4, [&](int64_t begin, int64_t end) {
      sum_columns<T>(rows.n, begin, end, {m}, [&](int64_t i, int64_t j) { return rows[i][j]; });
      for (int64_t j = begin; j < end; ++j) m[j] *= inverse;
      sum_columns<T>(rows.n, begin, end, {v}, [&](int64_t i, int64_t j) {
        const T d = rows[i][j] - m[j];
        return d * d;
      });
      for (int64_t j = begin; j < end; ++j) v[j] *= inverse;
      // out = x·scale + shift, with the two constants of each column in a small table.
      const std::unique_ptr<T[]> table(new T[2 * (end - begin)]);
      T* __restrict scale = table.get();
      T* __restrict shift = scale + (end - begin);
      for (int64_t j = begin; j < end; ++j) {
        scale[j - begin] = w[j] / std::sqrt(v[j] + static_cast<T>(eps));
        shift[j - begin] = b[j] - m[j] * scale[j - begin];
      }
      for (int64_t i = 0; i < rows.n; ++i) {
        const T* __restrict row = rows[i] + begin;
        T* __restrict o = results[i] + begin;
        for (int64_t j = 0; j < end - begin; ++j) o[j] = row[j] * scale[j] + shift[j];
      }
    });
  })
}

// With h = (x - mean)·rstd: dw = Σ g·h, db = Σ g, dx = w·rstd·(g - db/n - h·dw/n).
inline void batch_norm_grad(const View& g, const View& x, const View& weight, const View& mean,
                            const View& var, double eps, const View& dx, const View& dweight,
                            const View& dbias) {
  NEEDLE_DISPATCH_FLOAT(x.dtype, {
    const Rows2d<const T> rows(x), grads(g);
    const Rows2d<T> results(dx);
    const T* w = vector_data<const T>(weight);
    const T* m = vector_data<const T>(mean);
    const T* v = vector_data<const T>(var);
    T* dw = vector_data<T>(dweight);
    T* db = vector_data<T>(dbias);
    const T inverse = T(1) / rows.n;
    parallel_range(rows.c, rows.n * 4, [&](int64_t begin, int64_t end) {
      sum_columns<T>(
          rows.n, begin, end, {db, dw}, [&](int64_t i, int64_t j) { return grads[i][j]; },
          [&](int64_t i, int64_t j) { return grads[i][j] * (rows[i][j] - m[j]); });
      // dx = a·g + b·x + c, with the three constants of each column in a small table.
      const int64_t width = end - begin;
      const std::unique_ptr<T[]> table(new T[3 * width]);
      T* __restrict a = table.get();
      T* __restrict b = a + width;
      T* __restrict c = b + width;
      for (int64_t j = 0; j < width; ++j) {
        const int64_t col = begin + j;
        const T rstd = 1 / std::sqrt(v[col] + static_cast<T>(eps));
        dw[col] *= rstd;
        a[j] = w[col] * rstd;
        b[j] = -a[j] * rstd * dw[col] * inverse;
        c[j] = -a[j] * db[col] * inverse - b[j] * m[col];
      }
      for (int64_t i = 0; i < rows.n; ++i) {
        const T* __restrict gi = grads[i] + begin;
        const T* __restrict xi = rows[i] + begin;
        T* __restrict o = results[i] + begin;
        for (int64_t j = 0; j < width; ++j) o[j] = a[j] * gi[j] + b[j] * xi[j] + c[j];
      }
    });
  })
}

}  // namespace needle::NEEDLE_ISA
