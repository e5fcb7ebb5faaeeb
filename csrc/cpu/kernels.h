// kernels.h: the kernels of one instruction set, as a table of functions.
//
// Every instruction set compiles the same headers in its own namespace and fills one table;
// dispatch.cpp picks the best the processor has. Kernels may throw std::out_of_range (bad index)
// and std::invalid_argument, before they write anything.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ops.h"
#include "view.h"

namespace needle {

struct OptimizerStep {  // one parameter of an optimizer's step; `moments` may be unused
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

struct Convolution {  // first entries: height, second: width; padding before the first pixel
  int64_t stride[2], dilation[2], padding[2], groups;
};

struct KernelTable {
  const char* name;
  void (*fill)(const View& out, Scalar value);
  void (*copy)(const View& x, const View& out);
  void (*unary)(UnaryOp op, const View& x, const View& out);
  void (*binary)(BinaryOp op, const View& a, const View& b, const View& out);
  void (*binary_scalar)(BinaryOp op, const View& x, Scalar y, const View& out, bool reverse);
  void (*where)(const View& cond, const View& a, const View& b, const View& out);
  void (*reduce)(ReduceOp op, const View& x, unsigned axes, const View& out);
  void (*argreduce)(bool largest, const View& x, int axis, const View& out);
  void (*cumsum)(const View& x, int axis, const View& out);
  void (*argsort)(const View& x, int axis, bool descending, const View& out);
  void (*matmul)(const View& a, const View& b, const View& out, const View* bias);
  void (*take_rows)(const View& x, const View& index, const View& out);
  void (*add_rows)(const View& out, const View& index, const View& src);
  void (*softmax)(const View& x, const View& out, bool logarithm);
  void (*cross_entropy)(const View& logits, const View& labels, const View& losses, const View& lse,
                        int64_t ignore_index, double smoothing);
  void (*cross_entropy_grad)(const View& logits, const View& labels, const View& scale,
                             const View& lse, const View& out, int64_t ignore_index,
                             double smoothing);
  void (*batch_norm)(const View& x, const View& weight, const View& bias, double eps,
                     const View& out, const View& mean, const View& var);
  void (*batch_norm_grad)(const View& g, const View& x, const View& weight, const View& mean,
                          const View& var, double eps, const View& dx, const View& dweight,
                          const View& dbias);
  void (*layer_norm)(const View& x, const View& weight, const View& bias, double eps,
                     const View& out, const View& mean, const View& rstd);
  void (*layer_norm_grad)(const View& g, const View& x, const View& weight, const View& mean,
                          const View& rstd, const View& dx, const View& dweight, const View& dbias);
  void (*conv2d)(const View& x, const View& w, const View& y, const Convolution& geometry);
  void (*conv2d_input_grad)(const View& g, const View& w, const View& dx,
                            const Convolution& geometry);
  void (*conv2d_weight_grad)(const View& x, const View& g, const View& dw,
                             const Convolution& geometry);
  void (*lstm)(const View& gates, const View& w, const View& h, const View& c);
  void (*lstm_grad)(const View& gates, const View& w, const View& h, const View& c, const View& dh,
                    const View& dh0, const View& dc0);
  void (*rnn)(const View& gates, const View& w, const View& h, bool relu);
  void (*rnn_grad)(const View& gates, const View& w, const View& h, const View& dh, const View& dh0,
                   bool relu);
  void (*attention)(const View& q, const View& k, const View& v, const View* mask, const View& out,
                    const View& lse, double scale, bool causal);
  void (*attention_grad)(const View& g, const View& q, const View& k, const View& v,
                         const View* mask, const View& out, const View& lse, const View& dq,
                         const View& dk, const View& dv, double scale, bool causal);
  void (*sgd)(const OptimizerStep& step, const SgdOptions& options);
  void (*adam)(const OptimizerStep& step, const AdamOptions& options);
  void (*matmul_tiled)(const float* a, const float* b, float* out, int64_t m, int64_t n, int64_t p);
  void (*softmax_regression_epoch)(const float* x, const uint8_t* y, float* theta, size_t samples,
                                   size_t features, size_t classes, float lr, size_t batch);
  double (*peak_flops)(double seconds);
};

constexpr int64_t TILE_SIZE = 8;  // of matmul_tiled

// The table in use: the best instruction set of this processor, or a lower one that the
// environment variable NEEDLE_SIMD names. Throws std::invalid_argument for a name that is unknown
// or that this processor lacks.
const KernelTable& kernels();

// The names of the instruction sets that this processor has, from the fastest.
std::vector<std::string> simd_levels();

}  // namespace needle
