#include "contracts.h"

#include <algorithm>

#include "checks.h"

namespace needle::contracts {
namespace {

// The rough cost of one element, in element-wise operations: of a function such as exp, of a row's
// statistics, and of the products of a recurrent layer or a convolution.
constexpr int64_t FUNCTION = 8, STATISTICS = 4, PRODUCTS = 64;

// ---- rows -------------------------------------------------------------------------------------

int64_t softmax_rows(const char* op, const View& x, const View& out) {
  expect_floats(op, "x", x, 2, Layout::Rows);
  expect_like(op, "out", out, x, Layout::Rows);
  return size_of(out) * FUNCTION;
}

// `values` has one number for each row of the logits; `lse` has two.
int64_t losses(const char* op, const View& logits, const View& labels, const View& values,
               const View& lse) {
  expect_floats(op, "logits", logits, 2, Layout::Rows);
  expect(op, "labels", labels, DType::Int64, {logits.shape[0]});
  expect(op, "the value of each row", values, logits.dtype, {logits.shape[0]});
  expect(op, "lse", lse, logits.dtype, {logits.shape[0], 2});
  return size_of(logits) * FUNCTION;
}

using Views = std::initializer_list<const View*>;

// x and `results` have shape (n, c). The `vectors` have shape (c,), the `statistics` (c,) or (n,).
int64_t normalization(const char* op, const View& x, Views results, Views vectors, Views statistics,
                      int statistics_axis) {
  expect_floats(op, "x", x, 2, Layout::Rows);
  for (const View* v : results) expect_like(op, "an array of x's shape", *v, x, Layout::Rows);
  for (const View* v : vectors) expect(op, "weight, bias", *v, x.dtype, {x.shape[1]});
  for (const View* v : statistics)
    expect(op, "a statistic", *v, x.dtype, {x.shape[statistics_axis]});
  return size_of(x) * STATISTICS;
}

constexpr int OF_ROWS = 0, OF_COLUMNS = 1;

}  // namespace

int64_t softmax(const View& x, const View& out) { return softmax_rows("softmax", x, out); }

int64_t log_softmax(const View& x, const View& out) { return softmax_rows("log_softmax", x, out); }

int64_t cross_entropy(const View& logits, const View& labels, const View& losses_out,
                      const View& lse, int64_t, double) {
  return losses("cross_entropy", logits, labels, losses_out, lse);
}

int64_t cross_entropy_grad(const View& logits, const View& labels, const View& scale,
                           const View& lse, const View& out, int64_t, double) {
  const int64_t work = losses("cross_entropy_grad", logits, labels, scale, lse);
  expect_like("cross_entropy_grad", "out", out, logits, Layout::Rows);
  return work;
}

int64_t batch_norm(const View& x, const View& weight, const View& bias, double, const View& out,
                   const View& mean, const View& var) {
  return normalization("batch_norm", x, {&out}, {&weight, &bias}, {&mean, &var}, OF_COLUMNS);
}

int64_t batch_norm_grad(const View& g, const View& x, const View& weight, const View& mean,
                        const View& var, double, const View& dx, const View& dweight,
                        const View& dbias) {
  return normalization("batch_norm_grad", x, {&g, &dx}, {&weight, &dweight, &dbias}, {&mean, &var},
                       OF_COLUMNS);
}

int64_t layer_norm(const View& x, const View& weight, const View& bias, double, const View& out,
                   const View& mean, const View& rstd) {
  return normalization("layer_norm", x, {&out}, {&weight, &bias}, {&mean, &rstd}, OF_ROWS);
}

int64_t layer_norm_grad(const View& g, const View& x, const View& weight, const View& mean,
                        const View& rstd, const View& dx, const View& dweight, const View& dbias) {
  return normalization("layer_norm_grad", x, {&g, &dx}, {&weight, &dweight, &dbias}, {&mean, &rstd},
                       OF_ROWS);
}

// ---- convolution ------------------------------------------------------------------------------

namespace {

// x (N, H, W, C) has any strides if `x_is_read`; w is (KH, KW, C / groups, O), y (N, OH, OW, O).
int64_t convolution(const char* op, const View& x, const View& w, const View& y, bool x_is_read,
                    Pair stride, Pair dilation, Pair padding, int64_t groups) {
  constexpr int64_t MOST = int64_t{1} << 31;
  expect_floats(op, "x", x, 4, x_is_read ? Layout::Strided : Layout::Contiguous);
  for (const int axis : {0, 1}) {
    if (stride[axis] < 1 || stride[axis] > MOST || dilation[axis] < 1 || dilation[axis] > MOST ||
        padding[axis] < -MOST || padding[axis] > MOST)
      refuse(op, "stride and dilation must be from 1 to 2^31, padding within 2^31 of 0");
  }
  if (w.ndim != 4 || y.ndim != 4 || groups < 1 || w.shape[3] % groups != 0)
    refuse(op, "w must be (KH, KW, C / groups, O), y (N, OH, OW, O), groups a divisor of O");
  for (int axis = 0; axis < 4; ++axis) {
    if (x.shape[axis] > MOST || w.shape[axis] > MOST || y.shape[axis] > MOST)
      refuse(op, "the arrays must not be longer than 2^31");
  }
  if (x.shape[3] % groups != 0) refuse(op, "groups must divide the channels");
  const int64_t channels = x.shape[3] / groups, filters = w.shape[3];
  if (channels < 1 || w.shape[0] < 1 || w.shape[1] < 1)
    refuse(op, "the kernel and the channels must not be empty");
  expect(op, "w", w, x.dtype, {w.shape[0], w.shape[1], channels, filters});
  expect(op, "y", y, x.dtype, {x.shape[0], y.shape[1], y.shape[2], filters});
  return std::max(size_of(x), size_of(y)) * PRODUCTS;
}

}  // namespace

int64_t conv2d(const View& x, const View& w, const View& out, Pair stride, Pair dilation,
               Pair padding, int64_t groups) {
  return convolution("conv2d", x, w, out, true, stride, dilation, padding, groups);
}

int64_t conv2d_input_grad(const View& g, const View& w, const View& out, Pair stride, Pair dilation,
                          Pair padding, int64_t groups) {
  return convolution("conv2d_input_grad", out, w, g, false, stride, dilation, padding, groups);
}

int64_t conv2d_weight_grad(const View& x, const View& g, const View& out, Pair stride,
                           Pair dilation, Pair padding, int64_t groups) {
  return convolution("conv2d_weight_grad", x, out, g, true, stride, dilation, padding, groups);
}

// ---- recurrence -------------------------------------------------------------------------------

namespace {

constexpr int64_t LSTM_GATES = 4, RNN_GATES = 1;  // for each unit

// gates (T, B, G·H), w (H, G·H) and the states (T + 1, B, H) are all row-major.
int64_t recurrence(const char* op, int64_t per_unit, const View& gates, const View& w,
                   Views states) {
  expect_floats(op, "gates", gates, 3, Layout::Contiguous);
  const int64_t steps = gates.shape[0], batch = gates.shape[1], columns = gates.shape[2];
  if (columns % per_unit != 0) refuse(op, "the gates must be a multiple of the units");
  expect(op, "w", w, gates.dtype, {columns / per_unit, columns});
  for (const View* state : states)
    expect(op, "the states", *state, gates.dtype, {steps + 1, batch, columns / per_unit});
  return size_of(gates) * PRODUCTS;
}

// The gradients of the states (T, B, H) and of the initial state (B, H).
void state_gradients(const char* op, const View& h, const View& dh, Views first) {
  expect(op, "dh", dh, h.dtype, {h.shape[0] - 1, h.shape[1], h.shape[2]});
  for (const View* v : first)
    expect(op, "the gradient of the first state", *v, h.dtype, {h.shape[1], h.shape[2]});
}

}  // namespace

int64_t lstm(const View& gates, const View& w, const View& h, const View& c) {
  return recurrence("lstm", LSTM_GATES, gates, w, {&h, &c});
}

int64_t lstm_grad(const View& gates, const View& w, const View& h, const View& c, const View& dh,
                  const View& dh0, const View& dc0) {
  const int64_t work = recurrence("lstm_grad", LSTM_GATES, gates, w, {&h, &c});
  state_gradients("lstm_grad", h, dh, {&dh0, &dc0});
  return work;
}

int64_t rnn(const View& gates, const View& w, const View& h, bool) {
  return recurrence("rnn", RNN_GATES, gates, w, {&h});
}

int64_t rnn_grad(const View& gates, const View& w, const View& h, const View& dh, const View& dh0,
                 bool) {
  const int64_t work = recurrence("rnn_grad", RNN_GATES, gates, w, {&h});
  state_gradients("rnn_grad", h, dh, {&dh0});
  return work;
}

// ---- attention --------------------------------------------------------------------------------

namespace {

// q (B, H, T, d), k (B, H, S, d), v (B, H, S, e), mask null or (B, H, T, S), out (B, H, T, e) with
// consecutive elements in its rows, and row-major lse (B, H, T, 2).
int64_t attention_operands(const char* op, const View& q, const View& k, const View& v,
                           const View* mask, const View& out, const View& lse) {
  expect_floats(op, "q", q, 4);
  if (k.ndim != 4 || v.ndim != 4) refuse(op, "k and v must have 4 axes");
  const int64_t batch = q.shape[0], heads = q.shape[1], rows = q.shape[2], columns = k.shape[2];
  expect(op, "k", k, q.dtype, {batch, heads, columns, q.shape[3]}, Layout::Strided);
  expect(op, "v", v, q.dtype, {batch, heads, columns, v.shape[3]}, Layout::Strided);
  if (mask) expect(op, "mask", *mask, q.dtype, {batch, heads, rows, columns}, Layout::Strided);
  expect(op, "out", out, q.dtype, {batch, heads, rows, v.shape[3]}, Layout::Rows);
  expect(op, "lse", lse, q.dtype, {batch, heads, rows, 2});
  return size_of(out) * PRODUCTS;
}

}  // namespace

int64_t attention(const View& q, const View& k, const View& v, const View* mask, const View& out,
                  const View& lse, double, bool) {
  return attention_operands("attention", q, k, v, mask, out, lse);
}

int64_t attention_grad(const View& g, const View& q, const View& k, const View& v, const View* mask,
                       const View& out, const View& lse, const View& dq, const View& dk,
                       const View& dv, double, bool) {
  const int64_t work = attention_operands("attention_grad", q, k, v, mask, out, lse);
  expect_like("attention_grad", "g", g, out);
  expect_like("attention_grad", "dq", dq, q, Layout::Rows);
  expect_like("attention_grad", "dk", dk, k, Layout::Rows);
  expect_like("attention_grad", "dv", dv, v, Layout::Rows);
  return work;
}

}  // namespace needle::contracts
