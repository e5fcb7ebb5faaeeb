// elementwise.cpp: values that are copied, converted and calculated point by point.
#include "../kernels/elementwise.h"

#include "families.h"

namespace needle::NEEDLE_ISA {

void add_elementwise(KernelTable& table) {
  table.fill = fill;
  table.copy = copy;
  table.unary = unary;
  table.binary = binary;
  table.binary_scalar = binary_scalar;
  table.where = where;
}

}  // namespace needle::NEEDLE_ISA
