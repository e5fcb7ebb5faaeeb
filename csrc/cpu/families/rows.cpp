// rows.cpp: softmax, cross-entropy, norms and the optimizers.
#include "../kernels/rows.h"

#include "../kernels/columns.h"
#include "../kernels/optimizer.h"
#include "families.h"

namespace needle::NEEDLE_ISA {

void add_rows(KernelTable& table) {
  table.softmax = softmax;
  table.log_softmax = log_softmax;
  table.cross_entropy = cross_entropy;
  table.cross_entropy_grad = cross_entropy_grad;
  table.batch_norm = batch_norm;
  table.batch_norm_grad = batch_norm_grad;
  table.layer_norm = layer_norm;
  table.layer_norm_grad = layer_norm_grad;
  table.sgd = sgd;
  table.adam = adam;
}

}  // namespace needle::NEEDLE_ISA
