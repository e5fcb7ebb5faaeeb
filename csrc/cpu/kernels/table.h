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

// constexpr, so that no instruction of this set is executed while the library is being loaded.
constexpr KernelTable make_table(const char* set) {
#define NEEDLE_ENTRY(name, ...) .name = name,
  return {.name = set, NEEDLE_KERNELS(NEEDLE_ENTRY).peak_flops = peak_flops<float>};
#undef NEEDLE_ENTRY
}

}  // namespace needle::NEEDLE_ISA
