// index.h: rows by number, the transpose of that, and sorting orders.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "gemm.h"
#include "reduce.h"

namespace needle::NEEDLE_ISA {

// Row numbers, negative ones counted from the end. Throws std::out_of_range for a bad one. The
// index may be memory that others write to: one that has become bad since is taken as row 0.
class Rows {
 public:
  Rows(const View& index, int64_t n)
      : data_(reinterpret_cast<const int64_t*>(index.data)),
        step_(index.strides[0]),
        n_(n),
        size(index.shape[0]) {
    for (int64_t i = 0; i < size; ++i) {
      const int64_t row = raw(i);
      if (row < -n || row >= n) {
        throw std::out_of_range("index " + std::to_string(row) +
                                " is out of range for an axis of length " + std::to_string(n));
      }
    }
  }
  int64_t operator[](int64_t i) const {
    const int64_t row = raw(i), counted = row < 0 ? row + n_ : row;
    return static_cast<uint64_t>(counted) < static_cast<uint64_t>(n_) ? counted : 0;
  }

 private:
  int64_t raw(int64_t i) const { return read_once(data_ + i * step_); }
  const int64_t* data_;
  int64_t step_, n_;

 public:
  const int64_t size;
};

inline void take_rows(const View& x, const View& index, const View& out) {
  const Rows rows(index, x.shape[0]);
  const int64_t width = x.shape[1];
  NEEDLE_DISPATCH_STORED(x.dtype, {
    const T* source = reinterpret_cast<const T*>(x.data);
    T* target = reinterpret_cast<T*>(out.data);
    parallel_range(rows.size, width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* from = source + rows[i] * x.strides[0];
        T* __restrict to = target + i * out.strides[0];
        if (x.strides[1] == 1 && out.strides[1] == 1) {
          std::copy_n(from, width, to);
        } else {
          for (int64_t j = 0; j < width; ++j) to[j * out.strides[1]] = from[j * x.strides[1]];
        }
      }
    });
  })
}

// Threads share the columns, not the rows: repeated rows are added in the order of the index.
inline void add_rows(const View& out, const View& index, const View& src) {
  const Rows rows(index, out.shape[0]);
  NEEDLE_DISPATCH(out.dtype, {
    const T* source = reinterpret_cast<const T*>(src.data);
    T* target = reinterpret_cast<T*>(out.data);
    parallel_range(out.shape[1], rows.size, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < rows.size; ++i) {
        T* to = target + rows[i] * out.strides[0];
        const T* from = source + i * src.strides[0];
        for (int64_t j = begin; j < end; ++j) {
          T& sum = to[j * out.strides[1]];
          sum = f::add<T>(sum, from[j * src.strides[1]]);
        }
      }
    });
  })
}

// The order that sorts each lane: stable, NaNs last in both directions. A copy is sorted, of which
// nobody else can change a number between two looks.
inline void argsort(const View& x, int axis, bool descending, const View& out) {
  const View* views[] = {&x, &out};
  const int64_t n = x.shape[axis], so = out.strides[axis];
  NEEDLE_DISPATCH(x.dtype, {
    const int64_t sx = x.strides[axis];
    for_each_lane<2>(views, axis, [&](char* const* lane) {
      const T* from = reinterpret_cast<const T*>(lane[0]);
      int64_t* order = reinterpret_cast<int64_t*>(lane[1]);
      T* values = gemm_detail::scratch<T>(gemm_detail::VECTOR, n);
      int64_t* sorted = gemm_detail::scratch<int64_t>(gemm_detail::BIAS, n);
      for (int64_t i = 0; i < n; ++i) values[i] = from[i * sx], sorted[i] = i;
      std::stable_sort(sorted, sorted + n, [=](int64_t i, int64_t j) {
        const T a = values[i], b = values[j];
        if (a != a || b != b) return a == a && b != b;
        return descending ? a > b : a < b;
      });
      for (int64_t i = 0; i < n; ++i) order[i * so] = sorted[i];
    });
  })
}

}  // namespace needle::NEEDLE_ISA
