#define NEEDLE_ISA portable
#include "kernels/table.h"

namespace needle {

extern constinit const KernelTable TABLE_PORTABLE = portable::make_table("portable");

}  // namespace needle
