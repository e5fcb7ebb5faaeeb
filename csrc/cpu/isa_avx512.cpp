#define NEEDLE_ISA avx512
#include "kernels/table.h"

namespace needle {

extern constinit const KernelTable TABLE_AVX512 = avx512::make_table("avx512");

}  // namespace needle
