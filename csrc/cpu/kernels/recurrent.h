// recurrent.h: recurrent layers over a whole sequence: LSTM (Hochreiter & Schmidhuber 1997) and the
// Elman RNN, forward and backward through time.
//
// Contract: all arrays are compact. `gates` (T, B, G·H) holds the input projections including the
// biases and is overwritten. h and c (T + 1, B, H) hold the initial state at time 0 and receive the
// states of all later times; w is (H, G·H). Backward: `gates` holds the values that forward wrote
// there and is overwritten with the gradient of the projections. dh (T, B, H) holds the gradients
// of the states. dh0 and dc0 (B, H) hold the gradients of the final state and receive those of the
// initial state. The caller computes the gradients of the weights, which are single products over
// all time steps.
//
// Idea: only h·w depends on the previous step, so the loop computes only this product and the cell.
// w is packed once for all steps and stays in the cache (persistent RNNs, Diamos et al. 2016). The
// cells of a group of units are computed while their pre-activations are in L1. Threads split the
// batch and run independently. If w is too large for the cache of one core, they split the units
// instead and synchronize after every step, within one parallel region.
//
// Bound: the FMA rate, or reading w once for each step. Measured in
// benchmarks/native/recurrent.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../view.h"
#include "gemm.h"
#include "recurrent/cells.h"
#include "recurrent/steps.h"

namespace needle::NEEDLE_ISA {

namespace recurrent_detail {

using gemm_detail::ceil_div;
using gemm_detail::pack_lanes;
using gemm_detail::pack_panel;
using gemm_detail::part_start;
using gemm_detail::scratch;
using gemm_detail::TILE_ROWS;

template <typename T>
constexpr int64_t LANES = gemm_detail::Sizes<T>::LANES;
template <typename T>
constexpr int64_t WIDTH = gemm_detail::Sizes<T>::TILE_COLS;
// The largest number of units in a group of an LSTM. Their four gates make eight panels of two
// vectors.
template <typename T>
constexpr int64_t MAX_GROUP = 4 * LANES<T>;

// The batch is split among threads if w has at most MAX_SHARED_BYTES bytes, into parts of at least
// MIN_PART_ROWS rows.
constexpr int64_t MAX_SHARED_BYTES = 512 << 10, MIN_PART_ROWS = 4;

// ---- Products ---------------------------------------------------------------------------------

// The units of group `i`, if each group has `size` units.
inline Units group_of(int64_t hidden, int64_t size, int64_t i) {
  return {i * size, std::min(hidden, (i + 1) * size)};
}

// x (rows, k), the state that a step multiplies, packed in panels of at most TILE_ROWS rows.
template <typename T>
struct PackedRows {
  const T* data;
  int64_t rows, k;

  int64_t panels() const { return ceil_div(rows, TILE_ROWS); }
};

// Packs x into a buffer of this thread. Unless x has `changed`, the buffer is returned as it is.
template <typename T>
PackedRows<T> pack_rows(const T* x, int64_t rows, int64_t k, bool changed) {
  const int64_t panels = ceil_div(rows, TILE_ROWS);
  T* to = scratch<T>(gemm_detail::PACKED_A, panels * TILE_ROWS * k);
  if (!changed) return {to, rows, k};
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t i = part_start(rows, panels, panel), end = part_start(rows, panels, panel + 1);
    pack_lanes<T, TILE_ROWS>({x + i * k, k, 1, end - i, k}, to + panel * TILE_ROWS * k);
  }
  return {to, rows, k};
}

// c (rows, cols) = or += x·w for one packed panel of w, with `cols` <= WIDTH columns. The row
// stride of the panel is tile_cols(cols).
template <typename T>
void multiply_panel(const PackedRows<T>& x, const T* w, int64_t cols, T* c, int64_t c_row,
                    bool accumulate) {
  const auto& kernels = gemm_detail::kernels_for<T>(cols);
  const int64_t width = gemm_detail::tile_cols<T>(cols), panels = x.panels();
  gemm_detail::Tile<T> tile{};
  tile.k = x.k, tile.a_step = TILE_ROWS, tile.b = w, tile.b_step = width;
  tile.c_row = c_row, tile.accumulate = accumulate;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t i = part_start(x.rows, panels, panel);
    const int64_t height = part_start(x.rows, panels, panel + 1) - i;
    tile.a = x.data + panel * TILE_ROWS * x.k;
    tile.c = c + i * c_row;
    gemm_detail::multiply_tile(kernels, tile, height, cols, width);
  }
}

// Packs the columns `units` of w (or its rows, if `transposed`) in panels of WIDTH with k steps
// each. `row` is the row stride of w.
template <typename T>
void pack_units(const T* w, int64_t row, bool transposed, Units units, int64_t k, T* to) {
  for (int64_t u = units.first; u < units.last; u += WIDTH<T>) {
    const int64_t cols = std::min(WIDTH<T>, units.last - u);
    gemm_detail::with_tile<T>(cols, [&](auto vectors, auto bytes) {
      pack_panel<T, vectors() * bytes() / sizeof(T)>(
          {w + u * (transposed ? row : 1), transposed ? row : 1, transposed ? 1 : row, cols, k},
          to + u * k);
    });
  }
}

// out[:, units] = or += x·w.
template <typename T>
void multiply_units(const PackedRows<T>& x, const T* w, Units units, T* out, int64_t out_row,
                    bool accumulate) {
  for (int64_t u = units.first; u < units.last; u += WIDTH<T>) {
    multiply_panel(x, w + u * x.k, std::min(WIDTH<T>, units.last - u), out + u, out_row,
                   accumulate);
  }
}

// Returns room for the packed columns of all units, with `k` steps each.
template <typename T>
T* room_for_panels(int64_t hidden, int64_t k) {
  return scratch<T>(gemm_detail::TRANSPOSED, (hidden + WIDTH<T>)*k);
}

// ---- Sequences --------------------------------------------------------------------------------

// Some or all rows of the batch, over all time steps.
template <typename T>
struct Sequence {
  int64_t steps, batch, hidden;
  int64_t rows;  // batch rows between one step and the next in memory
  T *gates, *h, *c;

  explicit Sequence(const View& gates_view, const View& h_view, const View* c_view)
      : steps(gates_view.shape[0]),
        batch(h_view.shape[1]),
        hidden(h_view.shape[2]),
        rows(batch),
        gates(reinterpret_cast<T*>(gates_view.data)),
        h(reinterpret_cast<T*>(h_view.data)),
        c(c_view ? reinterpret_cast<T*>(c_view->data) : nullptr) {}

  int64_t size() const { return rows * hidden; }
  T* state(int64_t time) const { return h + time * size(); }
  T* cell(int64_t time) const { return c + time * size(); }
};

// Calls run(sequence, row) for the whole batch, or in parallel for parts of the batch that begin at
// `row`, if each part is worth a thread. Rows are independent, but each thread reads all of w (H,
// columns). So the batch is split only if w stays in the L2 of each core; otherwise run_steps
// splits the units.
template <typename T, typename Run>
void split_batch(const Sequence<T>& s, int64_t columns, const Run& run) {
  const int64_t weights = s.hidden * columns;
  const bool fits = weights * static_cast<int64_t>(sizeof(T)) <= MAX_SHARED_BYTES;
  const int64_t most = fits ? std::max<int64_t>(s.batch / MIN_PART_ROWS, 1) : 1;
  const int64_t parts = std::min<int64_t>(useful_threads(s.steps * s.batch * weights), most);
  if (parts == 1) return run(s, 0);
  parallel_for(parts, [&](int64_t i) {
    const int64_t row = part_start(s.batch, parts, i);
    Sequence<T> part = s;
    part.batch = part_start(s.batch, parts, i + 1) - row;
    part.gates += row * columns;
    part.h += row * s.hidden;
    if (s.c) part.c += row * s.hidden;
    run(part, row);
  });
}

// ---- LSTM forward -----------------------------------------------------------------------------

// The number of units in a group. Large groups read long consecutive pieces of the gates; small
// groups allow several threads to share a layer of few units.
template <typename T>
int64_t lstm_group(int64_t hidden) {
  return hidden < 16 * LANES<T> ? LANES<T> : MAX_GROUP<T>;
}

// Copies n elements with vector loads and stores.
template <typename T>
[[gnu::always_inline]] inline void copy_vectors(const T* from, int64_t n, T* to) {
  for_each_vector<T>({0, n},
                     [&](auto lanes, int64_t u) { lanes.store(to + u, lanes.load(from + u)); });
}

// Packs the columns of w (H, 4·H) for a group of units in panels, one gate after another.
template <typename T>
void pack_gates(const T* w, int64_t hidden, Units units, T* to) {
  constexpr int64_t AHEAD = 16;
  const int64_t n = units.count(), columns = 4 * n;
  T together[4 * MAX_GROUP<T>] = {};
  for (int64_t p = 0; p < hidden; ++p) {
    const T* row = w + p * 4 * hidden + units.first;
    for (int64_t gate = 0; gate < 4; ++gate) {
      __builtin_prefetch(row + (AHEAD * 4 + gate) * hidden);
      copy_vectors(row + gate * hidden, n, together + gate * n);
    }
    for (int64_t j = 0; j < columns; j += WIDTH<T>) {
      T* panel = to + j * hidden;
      if (columns - j >= WIDTH<T>) {
        std::memcpy(panel + p * WIDTH<T>, together + j, WIDTH<T> * sizeof(T));
      } else {
        const int64_t step = gemm_detail::tile_cols<T>(columns - j);
        copy_vectors(together + j, step, panel + p * step);
      }
    }
  }
}

// Computes one step of a group of units, for all rows of the batch.
template <typename T>
void lstm_step(const Sequence<T>& s, int64_t time, const PackedRows<T>& state, const T* w,
               Units units) {
  const int64_t columns = 4 * units.count(), hidden = s.hidden;
  T* sums = scratch<T>(gemm_detail::PARTIAL_SUMS, s.batch * columns);
  T* gates = s.gates + time * 4 * s.size();
  for (int64_t i = 0; i < 4 * s.batch; ++i) {  // the product below hides their latency
    __builtin_prefetch(gates + i * hidden + units.first);
    __builtin_prefetch(gates + i * hidden + units.last - 1);
  }
  for (int64_t j = 0; j < columns; j += WIDTH<T>) {
    multiply_panel(state, w + j * hidden, std::min(WIDTH<T>, columns - j), sums + j, columns,
                   false);
  }
  for (int64_t b = 0; b < s.batch; ++b) {
    for_each_vector<T>(units, [&](auto lanes, int64_t u) {
      const int64_t at = b * hidden + u;
      lstm_cell(lanes, hidden, gates + b * 4 * hidden + u, units.count(),
                sums + b * columns + u - units.first, s.cell(time) + at, s.cell(time + 1) + at,
                s.state(time + 1) + at);
    });
  }
}

// A single step reads w only once, so w is not packed.
template <typename T>
void lstm_single_step(const Sequence<T>& s, const T* w) {
  const int64_t columns = 4 * s.hidden;
  T* sums = scratch<T>(gemm_detail::TRANSPOSED, s.batch * columns);
  const gemm_detail::Product<T> product{
      s.batch, columns, s.hidden, {s.h, s.hidden, 1}, {w, columns, 1}, sums,
      columns, nullptr, false};
  gemm_detail::multiply_floats(product, useful_threads(s.batch * columns * s.hidden));
  for (int64_t b = 0; b < s.batch; ++b) {
    for_each_vector<T>({0, s.hidden}, [&](auto lanes, int64_t u) {
      const int64_t at = b * s.hidden + u, gate = b * columns + u;
      lstm_cell(lanes, s.hidden, s.gates + gate, s.hidden, sums + gate, s.cell(0) + at,
                s.cell(1) + at, s.state(1) + at);
    });
  }
}

// Computes the gradients of the gates of `units`. `later` and `dc` are dh0 and dc0 of the contract.
template <typename T>
void lstm_gradients(const Sequence<T>& s, int64_t time, const T* dh, const T* later, T* dc,
                    Units units) {
  T* gates = s.gates + time * 4 * s.size();
  for (int64_t b = 0; b < s.batch; ++b) {
    for_each_vector<T>(units, [&](auto lanes, int64_t u) {
      const int64_t at = b * s.hidden + u;
      lstm_cell_gradient(lanes, s.hidden, gates + b * 4 * s.hidden + u, s.cell(time) + at,
                         s.cell(time + 1) + at, dh + time * s.size() + at, later + at, dc + at);
    });
  }
}

// Backpropagation through time: each step computes `later` = gates·wᵀ, from which `gradients(time,
// units)` computes the gradients of the gates of the previous time step. w has shape (H, columns),
// gates (T, B, columns).
template <typename T>
void backward(const Sequence<T>& s, const T* w, int64_t columns, T* later, auto&& gradients) {
  T* panels = room_for_panels<T>(s.hidden, columns);
  const auto work = [&](int64_t step, int64_t group, bool first) {
    const Units units = group_of(s.hidden, WIDTH<T>, group);
    const int64_t time = s.steps - step;
    if (step == 0) {
      pack_units(w, columns, true, units, columns, panels);
    } else {
      const T* gates = s.gates + time * s.rows * columns;
      multiply_units(pack_rows(gates, s.batch, columns, first), panels, units, later, s.hidden,
                     false);
    }
    if (time > 0) gradients(time - 1, units);
  };
  run_steps(s.steps + 1, ceil_div(s.hidden, WIDTH<T>), s.batch * s.hidden * columns, work);
}

template <typename T>
void lstm_forward(const Sequence<T>& s, const T* w) {
  T* panels = room_for_panels<T>(4 * s.hidden, s.hidden);
  const int64_t group_size = lstm_group<T>(s.hidden);
  const auto work = [&](int64_t step, int64_t group, bool first) {
    const Units units = group_of(s.hidden, group_size, group);
    T* packed = panels + 4 * units.first * s.hidden;
    if (step == 0) return pack_gates(w, s.hidden, units, packed);
    lstm_step(s, step - 1, pack_rows(s.state(step - 1), s.batch, s.hidden, first), packed, units);
  };
  run_steps(s.steps + 1, ceil_div(s.hidden, group_size), 4 * s.batch * s.hidden * s.hidden, work);
}

template <typename T>
void rnn_forward(const Sequence<T>& s, const T* w, bool relu) {
  T* panels = room_for_panels<T>(s.hidden, s.hidden);
  const auto work = [&](int64_t step, int64_t group, bool first) {
    const Units units = group_of(s.hidden, WIDTH<T>, group);
    if (step == 0) return pack_units(w, s.hidden, false, units, s.hidden, panels);
    T *row = s.gates + (step - 1) * s.size(), *next = s.state(step);
    multiply_units(pack_rows(s.state(step - 1), s.batch, s.hidden, first), panels, units, row,
                   s.hidden, true);
    for (int64_t b = 0; b < s.batch; ++b) {
      for_each_vector<T>(units, [&](auto lanes, int64_t u) {
        rnn_cell(lanes, relu, row + b * s.hidden + u, next + b * s.hidden + u);
      });
    }
  };
  run_steps(s.steps + 1, ceil_div(s.hidden, WIDTH<T>), s.batch * s.hidden * s.hidden, work);
}

template <typename T>
void rnn_gradients(const Sequence<T>& s, int64_t time, bool relu, const T* dh, const T* later,
                   Units units) {
  T *gates = s.gates + time * s.size(), *state = s.state(time + 1);
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t at = b * s.hidden + units.first;
    rnn_cell_gradient(units.count(), relu, gates + at, state + at, dh + time * s.size() + at,
                      later + at);
  }
}

}  // namespace recurrent_detail

inline void lstm(const View& gates, const View& w, const View& h, const View& c) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, &c);
    const T* weights = reinterpret_cast<const T*>(w.data);
    if (s.size() == 0) return;
    if (s.steps == 1) return lstm_single_step(s, weights);
    split_batch(s, 4 * s.hidden,
                [&](const Sequence<T>& part, int64_t) { lstm_forward(part, weights); });
  })
}

inline void lstm_grad(const View& gates, const View& w, const View& h, const View& c,
                      const View& dh, const View& dh0, const View& dc0) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, &c);
    const T *weights = reinterpret_cast<const T*>(w.data),
            *grads = reinterpret_cast<const T*>(dh.data);
    T *later = reinterpret_cast<T*>(dh0.data), *dc = reinterpret_cast<T*>(dc0.data);
    split_batch(s, 4 * s.hidden, [&](const Sequence<T>& part, int64_t row) {
      const int64_t at = row * s.hidden;
      backward(part, weights, 4 * s.hidden, later + at, [&](int64_t time, Units units) {
        lstm_gradients(part, time, grads + at, later + at, dc + at, units);
      });
    });
  })
}

inline void rnn(const View& gates, const View& w, const View& h, bool relu) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, nullptr);
    const T* weights = reinterpret_cast<const T*>(w.data);
    split_batch(s, s.hidden,
                [&](const Sequence<T>& part, int64_t) { rnn_forward(part, weights, relu); });
  })
}

inline void rnn_grad(const View& gates, const View& w, const View& h, const View& dh,
                     const View& dh0, bool relu) {
  using namespace recurrent_detail;
  NEEDLE_DISPATCH_FLOAT(gates.dtype, {
    const Sequence<T> s(gates, h, nullptr);
    const T *weights = reinterpret_cast<const T*>(w.data),
            *grads = reinterpret_cast<const T*>(dh.data);
    T* later = reinterpret_cast<T*>(dh0.data);
    split_batch(s, s.hidden, [&](const Sequence<T>& part, int64_t row) {
      const int64_t at = row * s.hidden;
      backward(part, weights, s.hidden, later + at, [&](int64_t time, Units units) {
        rnn_gradients(part, time, relu, grads + at, later + at, units);
      });
    });
  })
}

}  // namespace needle::NEEDLE_ISA
