// index.h: gather of rows, its transpose scatter-add, and argsort.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "gemm.h"
#include "reduce.h"

namespace needle::NEEDLE_ISA {

// Row numbers; negative ones count from the end. The constructor throws std::out_of_range for an
// invalid one. Another thread may write to the index meanwhile: a row number that has become
// invalid since the check counts as row 0.
class Rows {
 public:
  Rows(const View& index, int64_t n)
      : data_(reinterpret_cast<const int64_t*>(index.data)),
        step_(index.strides[0]),
        n_(n),
        size(index.shape[0]) {
    const int64_t* place = data_;
    for (int64_t left = size, step = index.strides[0]; left > 0; --left, place += step) {
      const int64_t row = read_once(place);
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

inline void gather_rows(const View& x, const View& index, const View& out) {
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

constexpr int64_t FEW = 1024;  // additions to one row that are made without compensation

// Whether an index may contain a row more than FEW times. One place of every eight is sampled. A
// row that occurs FEW times has FEW / 8 samples on average, and fewer than half of that only once
// in ten million; so the answer is yes if a row has more than FEW / 16 samples. A linear
// congruential generator draws the samples, because an index is often periodic. Rows with equal
// low-order bits share a counter, so that all counters fit into L1.
inline bool may_repeat(const Rows& rows) {
  constexpr int64_t EACH = 8, COUNTERS = 4096;
  if (rows.size <= FEW) return false;
  const Rows local = rows;
  uint16_t counts[COUNTERS] = {};
  uint32_t random = 1;
  for (int64_t i = 0; i + EACH <= local.size; i += EACH) {
    random = random * 1664525 + 1013904223;
    const auto row = static_cast<uint64_t>(local[i + (random >> 29)]);
    if (++counts[row % COUNTERS] > FEW / (2 * EACH)) return true;
  }
  return false;
}

// The places of an index in two groups: the places of rows that occur at most FEW times, and a run
// of places for each of the other rows.
struct Repeats {
  struct Place {
    int64_t row, at;
  };
  struct Run {
    int64_t row, begin, end;  // in `places`
  };
  std::vector<Place> few;
  std::vector<Run> runs;
  std::vector<int64_t> places;

  Repeats() = default;
  Repeats(const Rows& rows, int64_t n) {
    std::vector<int64_t> copy(rows.size), next(n);  // a copy: the index may change meanwhile
    for (int64_t i = 0; i < rows.size; ++i) ++next[copy[i] = rows[i]];
    int64_t end = 0;
    for (int64_t row = 0; row < n; ++row) {
      const int64_t count = next[row], begin = end;
      next[row] = count > FEW ? begin : -1;
      if (count > FEW) runs.push_back({row, begin, end += count});
    }
    if (runs.empty()) return;
    places.resize(end);
    for (int64_t i = 0; i < rows.size; ++i) {
      int64_t& place = next[copy[i]];
      if (place < 0)
        few.push_back({copy[i], i});
      else
        places[place++] = i;
    }
  }
};

// Threads split the columns, not the rows, so that repeated rows are added in the order of the
// index. Up to FEW additions to a row are made one after the other. The sum of more has the error
// that sums.h states.
template <typename T, bool CONTIGUOUS>
void scatter_add_rows_as(const View& out, const Rows& rows, const Repeats& repeats,
                         const View& src) {
  const int64_t to_row = out.strides[0], to_column = CONTIGUOUS ? 1 : out.strides[1];
  const int64_t from_row = src.strides[0], from_column = CONTIGUOUS ? 1 : src.strides[1];
  T* const target = reinterpret_cast<T*>(out.data);
  const T* const source = reinterpret_cast<const T*>(src.data);
  parallel_range(out.shape[1], rows.size, [=, &rows, &repeats](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    const T* const from = source + begin * from_column;
    const auto add = [=, to = target + begin * to_column](int64_t row, const T* __restrict x,
                                                          int64_t step) {
      T* __restrict sums = to + row * to_row;
      for (int64_t j = 0; j < width; ++j)
        sums[j * to_column] = f::add<T>(sums[j * to_column], x[j * step]);
    };
    if (repeats.runs.empty()) {
      const Rows local = rows;  // a copy: its fields stay in registers despite the atomic reads
      for (int64_t i = 0; i < local.size; ++i) add(local[i], from + i * from_row, from_column);
      return;
    }
    for (const auto& [row, i] : repeats.few) add(row, from + i * from_row, from_column);
    if constexpr (std::is_floating_point_v<T>) {
      std::vector<T> sums(width);
      for (const auto& run : repeats.runs) {
        const int64_t* places = repeats.places.data() + run.begin;
        sum_columns<T>(run.end - run.begin, 0, width, {sums.data()}, [=](int64_t i, int64_t j) {
          return from[places[i] * from_row + j * from_column];
        });
        add(run.row, sums.data(), 1);
      }
    }
  });
}

inline void scatter_add_rows(const View& out, const View& index, const View& src) {
  const Rows rows(index, out.shape[0]);
  const bool rounds = out.dtype == DType::Float32 || out.dtype == DType::Float64;
  const Repeats repeats = rounds && may_repeat(rows) ? Repeats(rows, out.shape[0]) : Repeats();
  const bool contiguous = out.strides[1] == 1 && src.strides[1] == 1;
  NEEDLE_DISPATCH(out.dtype, (contiguous ? scatter_add_rows_as<T, true>
                                         : scatter_add_rows_as<T, false>)(out, rows, repeats, src))
}

// The permutation that sorts each lane: stable, where a NaN is larger than all numbers. A copy
// is sorted, so that no other thread can change a number between two comparisons.
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
        if (a != a || b != b) return (descending ? b == b : a == a) && (a == a) != (b == b);
        return descending ? a > b : a < b;
      });
      for (int64_t i = 0; i < n; ++i) order[i * so] = sorted[i];
    });
  })
}

}  // namespace needle::NEEDLE_ISA
