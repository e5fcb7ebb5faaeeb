// table.h: all kernels of one instruction set. Included once by each isa_*.cpp.
#pragma once

#include "../kernels.h"
#include "../softmax_regression.h"
#include "attention.h"
#include "columns.h"
#include "convolution.h"
#include "elementwise.h"
#include "index.h"
#include "matmul.h"
#include "optimizer.h"
#include "peak.h"
#include "recurrent.h"
#include "reduce.h"
#include "rows.h"

namespace needle::NEEDLE_ISA {

// constexpr, so that no instruction of this set runs while the library is being loaded.
constexpr KernelTable make_table(const char* name) {
  return {name,
          fill,
          copy,
          unary,
          binary,
          binary_scalar,
          where,
          reduce,
          argreduce,
          cumsum,
          argsort,
          matmul,
          take_rows,
          add_rows,
          softmax,
          cross_entropy,
          cross_entropy_grad,
          batch_norm,
          batch_norm_grad,
          layer_norm,
          layer_norm_grad,
          conv2d,
          conv2d_input_grad,
          conv2d_weight_grad,
          lstm,
          lstm_grad,
          rnn,
          rnn_grad,
          attention,
          attention_grad,
          sgd,
          adam,
          matmul_tiled,
          softmax_regression_epoch,
          peak_flops<float>};
}

}  // namespace needle::NEEDLE_ISA
