// families.h: the kernels of one instruction set, in families that are compiled at the same time.
//
// Each file of this folder is compiled once for each instruction set, in the namespace NEEDLE_ISA.
#pragma once

#include "../kernels.h"

#define NEEDLE_FAMILIES(X) \
  X(elementwise) X(reductions) X(rows) X(products) X(convolutions) X(attention) X(recurrent)

namespace needle::NEEDLE_ISA {

#define NEEDLE_DECLARE(family) void add_##family(KernelTable& table);
NEEDLE_FAMILIES(NEEDLE_DECLARE)
#undef NEEDLE_DECLARE

}  // namespace needle::NEEDLE_ISA
