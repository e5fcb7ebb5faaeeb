// table.cpp: all families of kernels of an instruction set as one table.
#include "families.h"

namespace needle::NEEDLE_ISA {

// Called only on a processor that has the instruction set.
KernelTable make_table(const char* name) {
  KernelTable table{};
  table.name = name;
#define NEEDLE_ADD(family) add_##family(table);
  NEEDLE_FAMILIES(NEEDLE_ADD)
#undef NEEDLE_ADD
  return table;
}

}  // namespace needle::NEEDLE_ISA
