// reductions.cpp: sums and maxima, orders, and rows that an index chooses.
#include "../kernels/index.h"
#include "../kernels/reduce.h"
#include "families.h"

namespace needle::NEEDLE_ISA {

void add_reductions(KernelTable& table) {
  table.reduce = reduce;
  table.argreduce = argreduce;
  table.cumsum = cumsum;
  table.argsort = argsort;
  table.gather_rows = gather_rows;
  table.scatter_add_rows = scatter_add_rows;
}

}  // namespace needle::NEEDLE_ISA
