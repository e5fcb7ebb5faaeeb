// recurrent.h: a recurrent layer over a whole sequence, LSTM (Hochreiter & Schmidhuber 1997) and
// the Elman RNN, forward and backward through time.
//
// Contract: all arrays are compact. `gates` (T, B, G·H) holds the input projections with biases and
// is overwritten; h and c (T + 1, B, H) hold the initial state at time 0 and get the states; w is
// (H, G·H). Backward: `gates` holds what forward left there and is overwritten with the gradient
// of the projections; dh (T, B, H) are the gradients of the states, dh0 and dc0 (B, H) hold the
// gradients that enter at the end of time and get those that leave at its beginning. The gradients
// of the weights are single products over all of time, and are left to the caller.
//
// Idea: only h·w depends on the step before; that product and the cell are all the loop does. The
// step's matrix is copied once, with rows that do not start at a power of two apart (which would
// put a column into few sets of the caches). Bound: reading w once a step.
#pragma once

#include "functions.h"
#include "gemm.h"

namespace needle::NEEDLE_ISA {

namespace recurrent_detail {

using gemm_detail::Product;
using gemm_detail::scratch;

constexpr int64_t ROW_PADDING = 16;

template <typename T>
struct StepMatrix {
  const T* data;
  int64_t rows, columns;

  int64_t step() const { return columns + ROW_PADDING; }
};

// A copy of w (rows, columns), or of its transpose.
template <typename T>
StepMatrix<T> copy_matrix(const T* w, int64_t rows, int64_t columns, bool transpose) {
  const int64_t m = transpose ? columns : rows, n = transpose ? rows : columns;
  const StepMatrix<T> copy{scratch<T>(gemm_detail::TRANSPOSED, m * (n + ROW_PADDING)), m, n};
  T* to = const_cast<T*>(copy.data);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      to[i * copy.step() + j] = transpose ? w[j * columns + i] : w[i * columns + j];
    }
  }
  return copy;
}

// out (rows, n) += or = x (rows, k)·w
template <typename T>
void step_product(const T* x, const StepMatrix<T>& w, T* out, int64_t rows, bool accumulate) {
  const int64_t k = w.rows, n = w.columns;
  const int threads = static_cast<int>(
      std::clamp<int64_t>(rows * n * k / gemm_detail::MIN_WORK_PER_THREAD, 1, num_threads()));
  const Product<T> product{rows, n, k,       {x, k, 1}, {w.data, w.step(), 1},
                           out,  n, nullptr, accumulate};
  gemm_detail::multiply_on_threads(product, threads);
}

template <typename T>
struct Sequence {
  int64_t steps, batch, hidden;
  T *gates, *h, *c;

  explicit Sequence(const View& gates_view, const View& h_view, const View* c_view)
      : steps(gates_view.shape[0]),
        batch(h_view.shape[1]),
        hidden(h_view.shape[2]),
        gates(reinterpret_cast<T*>(gates_view.data)),
        h(reinterpret_cast<T*>(h_view.data)),
        c(c_view ? reinterpret_cast<T*>(c_view->data) : nullptr) {}

  int64_t size() const { return batch * hidden; }
  T* state(int64_t time) const { return h + time * size(); }
  T* cell(int64_t time) const { return c + time * size(); }
};

// gates: i, f, g, o side by side; before: c of the step before.
template <typename T>
void lstm_cell(int64_t hidden, T* __restrict gates, const T* __restrict before, T* __restrict c,
               T* __restrict h) {
  T* __restrict i = gates, * __restrict f = gates + hidden, * __restrict g = gates + 2 * hidden, * __restrict o = gates + 3 * hidden;
  for (int64_t j = 0; j < hidden; ++j) {
    i[j] = f::sigmoid<T>(i[j]);
    f[j] = f::sigmoid<T>(f[j]);
    g[j] = f::tanh<T>(g[j]);
    o[j] = f::sigmoid<T>(o[j]);
    c[j] = f[j] * before[j] + i[j] * g[j];
    h[j] = o[j] * f::tanh<T>(c[j]);
  }
}

// gates: activated, overwritten with their gradients; dc: of c, overwritten with that of `before`.
template <typename T>
void lstm_cell_gradient(int64_t hidden, T* __restrict gates, const T* __restrict before,
                        const T* __restrict c, const T* __restrict dh, const T* __restrict later,
                        T* __restrict dc) {
  T* __restrict i = gates, * __restrict f = gates + hidden, * __restrict g = gates + 2 * hidden, * __restrict o = gates + 3 * hidden;
  for (int64_t j = 0; j < hidden; ++j) {
    const T tanh_c = f::tanh<T>(c[j]), d = dh[j] + later[j];
    const T total = dc[j] + d * o[j] * (1 - tanh_c * tanh_c);
    const T gi = i[j], gf = f[j], gg = g[j], go = o[j];
    i[j] = total * gg * gi * (1 - gi);
    f[j] = total * before[j] * gf * (1 - gf);
    g[j] = total * gi * (1 - gg * gg);
    o[j] = d * tanh_c * go * (1 - go);
    dc[j] = total * gf;
  }
}

template <typename T>
void rnn_cell(int64_t n, bool relu, const T* __restrict gates, T* __restrict h) {
  if (relu) {
    for (int64_t j = 0; j < n; ++j) h[j] = gates[j] > 0 ? gates[j] : T(0);
  } else {
    for (int64_t j = 0; j < n; ++j) h[j] = f::tanh<T>(gates[j]);
  }
}

template <typename T>
void rnn_cell_gradient(int64_t n, bool relu, T* __restrict gates, const T* __restrict h,
                       const T* __restrict dh, const T* __restrict later) {
  for (int64_t j = 0; j < n; ++j) {
    const T slope = relu ? static_cast<T>(h[j] > 0) : 1 - h[j] * h[j];
    gates[j] = (dh[j] + later[j]) * slope;
  }
}

}  // namespace recurrent_detail

inline void lstm(const View& gates, const View& w, const View& h, const View& c) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, &c);
    const auto matrix =
        copy_matrix(reinterpret_cast<const T*>(w.data), s.hidden, 4 * s.hidden, false);
    for (int64_t t = 0; t < s.steps; ++t) {
      T* row = s.gates + t * 4 * s.size();
      step_product(s.state(t), matrix, row, s.batch, true);
      parallel_range(s.batch, s.hidden * 64, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          const int64_t at = b * s.hidden;
          lstm_cell(s.hidden, row + 4 * at, s.cell(t) + at, s.cell(t + 1) + at,
                    s.state(t + 1) + at);
        }
      });
    }
  })
}

inline void lstm_grad(const View& gates, const View& w, const View& h, const View& c,
                      const View& dh, const View& dh0, const View& dc0) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, &c);
    const T* grads = reinterpret_cast<const T*>(dh.data);
    T *later = reinterpret_cast<T*>(dh0.data), *dc = reinterpret_cast<T*>(dc0.data);
    const auto matrix =
        copy_matrix(reinterpret_cast<const T*>(w.data), s.hidden, 4 * s.hidden, true);
    for (int64_t t = s.steps - 1; t >= 0; --t) {
      T* row = s.gates + t * 4 * s.size();
      parallel_range(s.batch, s.hidden * 64, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          const int64_t at = b * s.hidden;
          lstm_cell_gradient(s.hidden, row + 4 * at, s.cell(t) + at, s.cell(t + 1) + at,
                             grads + t * s.size() + at, later + at, dc + at);
        }
      });
      step_product<T>(row, matrix, later, s.batch, false);
    }
  })
}

inline void rnn(const View& gates, const View& w, const View& h, bool relu) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, nullptr);
    const auto matrix = copy_matrix(reinterpret_cast<const T*>(w.data), s.hidden, s.hidden, false);
    for (int64_t t = 0; t < s.steps; ++t) {
      T* row = s.gates + t * s.size();
      step_product(s.state(t), matrix, row, s.batch, true);
      rnn_cell(s.size(), relu, row, s.state(t + 1));
    }
  })
}

inline void rnn_grad(const View& gates, const View& w, const View& h, const View& dh,
                     const View& dh0, bool relu) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, nullptr);
    const T* grads = reinterpret_cast<const T*>(dh.data);
    T* later = reinterpret_cast<T*>(dh0.data);
    const auto matrix = copy_matrix(reinterpret_cast<const T*>(w.data), s.hidden, s.hidden, true);
    for (int64_t t = s.steps - 1; t >= 0; --t) {
      T* row = s.gates + t * s.size();
      rnn_cell_gradient(s.size(), relu, row, s.state(t + 1), grads + t * s.size(), later);
      step_product<T>(row, matrix, later, s.batch, false);
    }
  })
}

}  // namespace needle::NEEDLE_ISA
