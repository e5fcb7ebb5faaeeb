// contracts.h: checks of the arguments of each fused kernel, made before it runs.
//
// There is one function for each of NEEDLE_FUSED_KERNELS, with the kernel's parameters. It throws
// if an argument does not have the shape, dtype or layout that the kernel will read and write. It
// returns the work of the kernel, in element-wise operations, as a rough estimate.
#pragma once

#include "kernels.h"

namespace needle::contracts {

#define NEEDLE_CONTRACT(name, ...) int64_t name(__VA_ARGS__);
NEEDLE_FUSED_KERNELS(NEEDLE_CONTRACT)
#undef NEEDLE_CONTRACT

}  // namespace needle::contracts
