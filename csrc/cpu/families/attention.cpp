// attention.cpp: attention and its gradient.
#include "../kernels/attention.h"

#include "families.h"

namespace needle::NEEDLE_ISA {

void add_attention(KernelTable& table) {
  table.attention = attention;
  table.attention_grad = attention_grad;
}

}  // namespace needle::NEEDLE_ISA
