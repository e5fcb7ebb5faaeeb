#define NEEDLE_ISA neon
#include "kernels/table.h"

namespace needle {

extern constinit const KernelTable TABLE_NEON = neon::make_table("neon");

}  // namespace needle
