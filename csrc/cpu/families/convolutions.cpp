// convolutions.cpp: convolutions and their gradients.
#include "../kernels/convolution.h"
#include "families.h"

namespace needle::NEEDLE_ISA {

void add_convolutions(KernelTable& table) {
  table.conv2d = conv2d;
  table.conv2d_input_grad = conv2d_input_grad;
  table.conv2d_weight_grad = conv2d_weight_grad;
}

}  // namespace needle::NEEDLE_ISA
