// products.cpp: matrix products, and the speed that they could have.
#include "../kernels/matmul.h"
#include "../kernels/peak.h"
#include "../softmax_regression.h"
#include "families.h"

namespace needle::NEEDLE_ISA {

void add_products(KernelTable& table) {
  table.matmul = matmul;
  table.matmul_tiled = matmul_tiled;
  table.softmax_regression_epoch = softmax_regression_epoch;
  table.matmul16 = matmul16<gemm16_detail::PortableTiles>;
  table.peak_flops = peak_flops<float>;
}

}  // namespace needle::NEEDLE_ISA
