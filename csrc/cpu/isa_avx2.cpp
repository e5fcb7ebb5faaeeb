#define NEEDLE_ISA avx2
#include "kernels/table.h"

namespace needle {

extern constinit const KernelTable TABLE_AVX2 = avx2::make_table("avx2");

}  // namespace needle
