// contracts.h: what each fused kernel demands of its arguments, checked before it runs.
//
// One function for each of NEEDLE_FUSED_KERNELS, with its parameters. It throws where an argument
// is not what the kernel will read and write, and returns the work: about as many element-wise
// operations as the kernel takes.
#pragma once

#include "kernels.h"

namespace needle::contracts {

#define NEEDLE_CONTRACT(name, ...) int64_t name(__VA_ARGS__);
NEEDLE_FUSED_KERNELS(NEEDLE_CONTRACT)
#undef NEEDLE_CONTRACT

}  // namespace needle::contracts
