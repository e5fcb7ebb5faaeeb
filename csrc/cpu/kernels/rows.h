// rows.h: softmax, cross-entropy and layer normalization: one row of a matrix at a time.
//
// Contract: matrices are (n, c) of float or double with unit column stride; vectors have unit
// stride. Rows are independent, so that threads split the rows. Sums have the error that sums.h
// states.
// Bound: the polynomial of exp, or memory bandwidth.
#pragma once

#include <stdexcept>
#include <string>

#include "reduce.h"

namespace needle::NEEDLE_ISA {

template <typename T>
struct Rows2d {
  T* data;
  int64_t n, c, step;

  explicit Rows2d(const View& v)
      : data(reinterpret_cast<T*>(v.data)), n(v.shape[0]), c(v.shape[1]), step(v.strides[0]) {}
  T* operator[](int64_t i) const { return data + i * step; }
};

template <typename T>
T* vector_data(const View& v) {
  return reinterpret_cast<T*>(v.data);
}

template <typename T>
T row_max(const T* row, int64_t c) {
  return reduce_floats<ReduceOp::max, T>(row, c);
}

// out = exp(row - top); returns the sum. `top` is the row's maximum, so that every exponent is at
// most 0.
template <typename T>
T exp_row(const T* __restrict row, T top, T* __restrict out, int64_t c) {
  for (int64_t j = 0; j < c; ++j) out[j] = f::exp<T>(row[j] - top);
  return reduce_floats<ReduceOp::sum, T>(out, c);
}

// The sum of exp(row - top); the terms are not stored.
template <typename T>
T sum_exp(const T* row, T top, int64_t c) {
  constexpr int64_t BLOCK = 1024;
  T block[BLOCK];
  if (c <= BLOCK) return exp_row(row, top, block, c);
  Total<ReduceOp::sum, T> sum;
  for (int64_t j = 0; j < c; j += BLOCK)
    sum.add(exp_row(row + j, top, block, std::min(BLOCK, c - j)));
  return sum.value();
}

// Computes the exponentials and their sum once for each row. `finish(row, top, sum, out, columns)`
// computes the results of the row from them.
template <typename Finish>
void softmax_rows(const View& x, const View& out, const Finish& finish) {
  NEEDLE_DISPATCH_FLOAT(x.dtype, {
    const Rows2d<const T> rows(x);
    const Rows2d<T> results(out);
    parallel_range(rows.n, rows.c * FUNCTION, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = rows[i];
        T* o = results[i];
        const T top = row_max(row, rows.c);
        finish(row, top, exp_row(row, top, o, rows.c), o, rows.c);
      }
    });
  })
}

inline void softmax(const View& x, const View& out) {
  softmax_rows(x, out, [](const auto*, auto, auto sum, auto* __restrict o, int64_t c) {
    const auto scale = 1 / sum;
    for (int64_t j = 0; j < c; ++j) o[j] *= scale;
  });
}

inline void log_softmax(const View& x, const View& out) {
  softmax_rows(x, out, [](const auto* row, auto top, auto sum, auto* __restrict o, int64_t c) {
    // Two subtractions: in top + log_sum a large maximum would swallow the logarithm.
    const auto log_sum = std::log(sum);
    for (int64_t j = 0; j < c; ++j) o[j] = (row[j] - top) - log_sum;
  });
}

// ---- cross-entropy ----------------------------------------------------------------------------

// The labels of the rows. The constructor throws std::out_of_range for a label that is neither a
// class nor `ignore_index`. Another thread may write to the labels meanwhile: a label that has
// become invalid since the check counts as class 0.
class Labels {
 public:
  Labels(const View& labels, int64_t classes, int64_t ignore_index)
      : data_(vector_data<const int64_t>(labels)), classes_(classes), ignore_index_(ignore_index) {
    for (int64_t i = 0; i < labels.shape[0]; ++i) {
      const int64_t label = read_once(data_ + i);
      if (label != ignore_index && !is_class(label)) {
        throw std::out_of_range("[cross_entropy] label " + std::to_string(label) +
                                " is out of range for " + std::to_string(classes) + " classes");
      }
    }
  }
  // The class of row i, or -1 if the row is ignored.
  int64_t operator[](int64_t i) const {
    const int64_t label = read_once(data_ + i);
    return label == ignore_index_ ? -1 : is_class(label) ? label : 0;
  }

 private:
  bool is_class(int64_t label) const { return label >= 0 && label < classes_; }
  const int64_t* data_;
  int64_t classes_, ignore_index_;
};

// The sum of row - top; the terms are not stored. Vectors of accumulators are summed in blocks, as
// in `reduce_floats`.
template <typename T>
T sum_shifted(const T* row, T top, int64_t c) {
  constexpr int64_t STEP = 4 * REGISTER_BYTES / sizeof(T), BLOCK = 64 * STEP;
  const auto sum_block = [=](int64_t begin, int64_t end) {
    T part[STEP] = {}, rest = 0;
    int64_t j = begin;
    for (; j + STEP <= end; j += STEP)
      for (int64_t k = 0; k < STEP; ++k) part[k] += row[j + k] - top;
    for (; j < end; ++j) rest += row[j] - top;
    return rest + reduce_block<ReduceOp::sum, T>(part, STEP);
  };
  if (c <= BLOCK) return sum_block(0, c);
  Total<ReduceOp::sum, T> total;
  for (int64_t j = 0; j < c; j += BLOCK) total.add(sum_block(j, std::min(j + BLOCK, c)));
  return total.value();
}

// The target is (1 - s)·one_hot + s/c, so the loss is
// logsumexp - (1 - s)·logit[label] - s·mean(logits).
// `lse` (n, 2) receives the two terms of every row's logsumexp: the maximum, and the logarithm of
// the sum of exp(x - maximum). They save the gradient a pass. They are kept apart because their sum
// would lose the second term.
inline void cross_entropy(const View& logits, const View& labels, const View& losses,
                          const View& lse, int64_t ignore_index, double smoothing) {
  const Labels classes(labels, logits.shape[1], ignore_index);
  NEEDLE_DISPATCH_FLOAT(logits.dtype, {
    const Rows2d<const T> rows(logits);
    T *loss = vector_data<T>(losses), *terms = vector_data<T>(lse);
    parallel_range(rows.n, rows.c * FUNCTION, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        loss[i] = terms[2 * i] = terms[2 * i + 1] = 0;
        const int64_t label = classes[i];
        if (label < 0) continue;
        const T* row = rows[i];
        const T top = row_max(row, rows.c);
        const T log_sum = std::log(sum_exp(row, top, rows.c));
        terms[2 * i] = top;
        terms[2 * i + 1] = log_sum;
        T expected = smoothing < 1 ? static_cast<T>(1 - smoothing) * (row[label] - top) : T(0);
        if (smoothing > 0)
          expected += static_cast<T>(smoothing) * (sum_shifted(row, top, rows.c) / rows.c);
        loss[i] = log_sum - expected;
      }
    });
  })
}

inline void cross_entropy_grad(const View& logits, const View& labels, const View& scale,
                               const View& lse, const View& out, int64_t ignore_index,
                               double smoothing) {
  const Labels classes(labels, logits.shape[1], ignore_index);
  NEEDLE_DISPATCH_FLOAT(logits.dtype, {
    const Rows2d<const T> rows(logits);
    const Rows2d<T> grads(out);
    const T *factor = vector_data<const T>(scale), *terms = vector_data<const T>(lse);
    const T spread = static_cast<T>(smoothing / rows.c);
    parallel_range(rows.n, rows.c * FUNCTION, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T* __restrict o = grads[i];
        const int64_t label = classes[i];
        if (label < 0) {
          std::fill_n(o, rows.c, T(0));
          continue;
        }
        const T* row = rows[i];
        const T g = factor[i], top = terms[2 * i], share = f::exp<T>(-terms[2 * i + 1]);
        for (int64_t j = 0; j < rows.c; ++j) o[j] = g * (f::exp<T>(row[j] - top) * share - spread);
        o[label] -= g * static_cast<T>(1 - smoothing);
      }
    });
  })
}

// ---- layer normalization ----------------------------------------------------------------------

inline void layer_norm(const View& x, const View& weight, const View& bias, double eps,
                       const View& out, const View& mean, const View& rstd) {
  NEEDLE_DISPATCH_FLOAT(x.dtype, {
    const Rows2d<const T> rows(x);
    const Rows2d<T> results(out);
    const T* __restrict w = vector_data<const T>(weight);
    const T* __restrict b = vector_data<const T>(bias);
    parallel_range(rows.n, rows.c * 3, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* __restrict row = rows[i];
        T* __restrict o = results[i];
        const T centre = reduce_floats<ReduceOp::sum, T>(row, rows.c) / rows.c;
        for (int64_t j = 0; j < rows.c; ++j) o[j] = (row[j] - centre) * (row[j] - centre);
        const T variance = reduce_floats<ReduceOp::sum, T>(o, rows.c) / rows.c;
        const T scale = 1 / std::sqrt(variance + static_cast<T>(eps));
        for (int64_t j = 0; j < rows.c; ++j) o[j] = (row[j] - centre) * scale * w[j] + b[j];
        vector_data<T>(mean)[i] = centre;
        vector_data<T>(rstd)[i] = scale;
      }
    });
  })
}

// With h = (x - mean)·rstd and p = g·w: dx = rstd·(p - mean(p) - h·mean(p·h)).
template <typename T>
void layer_norm_grad_row(const T* __restrict g, const T* __restrict x, const T* __restrict w,
                         T centre, T scale, T* __restrict dx, int64_t c) {
  for (int64_t j = 0; j < c; ++j) dx[j] = g[j] * w[j];
  const T mean_p = reduce_floats<ReduceOp::sum, T>(dx, c) / c;
  for (int64_t j = 0; j < c; ++j) dx[j] *= (x[j] - centre) * scale;
  const T mean_ph = reduce_floats<ReduceOp::sum, T>(dx, c) / c;
  for (int64_t j = 0; j < c; ++j) {
    const T h = (x[j] - centre) * scale;
    dx[j] = scale * (g[j] * w[j] - mean_p - h * mean_ph);
  }
}

inline void layer_norm_grad(const View& g, const View& x, const View& weight, const View& mean,
                            const View& rstd, const View& dx, const View& dweight,
                            const View& dbias) {
  NEEDLE_DISPATCH_FLOAT(x.dtype, {
    const Rows2d<const T> rows(x), grads(g);
    const Rows2d<T> results(dx);
    const T* w = vector_data<const T>(weight);
    const T* centre = vector_data<const T>(mean);
    const T* scale = vector_data<const T>(rstd);
    parallel_range(rows.n, rows.c * 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        layer_norm_grad_row<T>(grads[i], rows[i], w, centre[i], scale[i], results[i], rows.c);
      }
    });
    T* const dw = vector_data<T>(dweight);
    T* const db = vector_data<T>(dbias);
    parallel_range(rows.c, rows.n * 2, [&](int64_t begin, int64_t end) {
      sum_columns<T>(
          rows.n, begin, end, {db, dw}, [&](int64_t i, int64_t j) { return grads[i][j]; },
          [&](int64_t i, int64_t j) { return grads[i][j] * (rows[i][j] - centre[i]) * scale[i]; });
    });
  })
}

}  // namespace needle::NEEDLE_ISA
