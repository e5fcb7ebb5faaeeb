// kernels.h: the kernels of one instruction set, as a table of functions.
//
// The lists below declare each kernel once. From them the table, the code that an instruction set
// fills it with, and the functions that Python calls are generated. Every instruction set compiles
// the same headers in its own namespace and fills one table; dispatch.cpp picks the best
// instruction set that the processor has. The kernels' headers (kernels/) and the NumPy references
// (needle/backend_ndarray/reference.py) state what the operands mean. Kernels may throw
// std::out_of_range (for an invalid index) and std::invalid_argument, but only before they write
// anything.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "ops.h"
#include "view.h"

namespace needle {

struct OptimizerStep {  // the update of one parameter; its moments may be unused
  View parameter, gradient, first, second, out;
};

struct SgdOptions {
  double lr, momentum, weight_decay, dampening;
  bool nesterov;
};

struct AdamOptions {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;
  bool decoupled;
};

using Pair = std::array<int64_t, 2>;  // for height and width

// clang-format off
// Every kernel, as X(name, parameters...), in three lists. The primitives, which every device
// implements:
#define NEEDLE_PRIMITIVES(X)                                                                       \
  X(fill, const View& out, Scalar value)                                                           \
  X(copy, const View& x, const View& out)                                                          \
  X(unary, UnaryOp op, const View& x, const View& out)                                             \
  X(binary, BinaryOp op, const View& a, const View& b, const View& out)                            \
  X(binary_scalar, BinaryOp op, const View& x, Scalar y, const View& out, bool reverse)            \
  X(where, const View& cond, const View& a, const View& b, const View& out)                        \
  X(reduce, ReduceOp op, const View& x, unsigned axes, const View& out)                            \
  X(argreduce, bool largest, const View& x, int axis, const View& out)                             \
  X(cumsum, const View& x, int axis, const View& out)                                              \
  X(argsort, const View& x, int axis, bool descending, const View& out)                            \
  X(matmul, const View& a, const View& b, const View& out, const View* bias)                       \
  X(gather_rows, const View& x, const View& index, const View& out)                                \
  X(scatter_add_rows, const View& out, const View& index, const View& src)

// The fused kernels, which Python calls with these parameters after `contracts` has checked them:
#define NEEDLE_FUSED_KERNELS(X)                                                                    \
  X(softmax, const View& x, const View& out)                                                       \
  X(log_softmax, const View& x, const View& out)                                                   \
  X(cross_entropy, const View& logits, const View& labels, const View& losses, const View& lse,    \
    int64_t ignore_index, double smoothing)                                                        \
  X(cross_entropy_grad, const View& logits, const View& labels, const View& scale,                 \
    const View& lse, const View& out, int64_t ignore_index, double smoothing)                      \
  X(batch_norm, const View& x, const View& weight, const View& bias, double eps, const View& out,  \
    const View& mean, const View& var)                                                             \
  X(batch_norm_grad, const View& g, const View& x, const View& weight, const View& mean,           \
    const View& var, double eps, const View& dx, const View& dweight, const View& dbias)           \
  X(layer_norm, const View& x, const View& weight, const View& bias, double eps, const View& out,  \
    const View& mean, const View& rstd)                                                            \
  X(layer_norm_grad, const View& g, const View& x, const View& weight, const View& mean,           \
    const View& rstd, const View& dx, const View& dweight, const View& dbias)                      \
  X(conv2d, const View& x, const View& w, const View& out, Pair stride, Pair dilation,             \
    Pair padding, int64_t groups)                                                                  \
  X(conv2d_input_grad, const View& g, const View& w, const View& out, Pair stride, Pair dilation,  \
    Pair padding, int64_t groups)                                                                  \
  X(conv2d_weight_grad, const View& x, const View& g, const View& out, Pair stride, Pair dilation, \
    Pair padding, int64_t groups)                                                                  \
  X(lstm, const View& gates, const View& w, const View& h, const View& c)                          \
  X(lstm_grad, const View& gates, const View& w, const View& h, const View& c, const View& dh,     \
    const View& dh0, const View& dc0)                                                              \
  X(rnn, const View& gates, const View& w, const View& h, bool relu)                               \
  X(rnn_grad, const View& gates, const View& w, const View& h, const View& dh, const View& dh0,    \
    bool relu)                                                                                     \
  X(attention, const View& q, const View& k, const View& v, const View* mask, const View& out,     \
    const View& lse, double scale, bool causal)                                                    \
  X(attention_grad, const View& g, const View& q, const View& k, const View& v, const View* mask,  \
    const View& out, const View& lse, const View& dq, const View& dk, const View& dv,              \
    double scale, bool causal)

// The kernels with hand-written bindings:
#define NEEDLE_OTHER_KERNELS(X)                                                                    \
  X(sgd, const OptimizerStep& step, const SgdOptions& options)                                     \
  X(adam, const OptimizerStep& step, const AdamOptions& options)                                   \
  X(matmul_tiled, const float* a, const float* b, float* out, int64_t m, int64_t n, int64_t p)     \
  X(softmax_regression_epoch, const float* x, const uint8_t* y, float* theta, size_t samples,      \
    size_t features, size_t classes, float lr, size_t batch)
// clang-format on

#define NEEDLE_KERNELS(X) NEEDLE_PRIMITIVES(X) NEEDLE_FUSED_KERNELS(X) NEEDLE_OTHER_KERNELS(X)

struct KernelTable {
  const char* name;
#define NEEDLE_POINTER(name, ...) void (*name)(__VA_ARGS__);
  NEEDLE_KERNELS(NEEDLE_POINTER)
#undef NEEDLE_POINTER
  double (*peak_flops)(double seconds);
  // `matmul` where an operand is of bfloat16; any of the others may be of float32.
  void (*matmul16)(const View& a, const View& b, const View& out, const View* bias);
};

constexpr int64_t TILE_SIZE = 8;  // the side of a tile of matmul_tiled

// The table in use: that of the best instruction set of this processor, or of a lower one that the
// environment variable NEEDLE_SIMD names. Throws std::invalid_argument if the name is unknown or
// the processor lacks the instruction set.
const KernelTable& kernels();

// The names of the instruction sets that this processor has, from the fastest to the slowest.
std::vector<std::string> simd_levels();

}  // namespace needle
