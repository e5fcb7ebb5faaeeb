// products16.cpp: products of bfloat16 matrices for processors with AVX-512 BF16 or AMX. Everything
// else of these levels is that of AVX-512.
#include "../kernels.h"
#include "../kernels/gemm16.h"

namespace needle::NEEDLE_ISA {

void add_dot_products(KernelTable& table) { table.matmul16 = matmul16<gemm16_detail::DotTiles>; }

void add_amx_products(KernelTable& table) { table.matmul16 = matmul16<gemm16_detail::AmxTiles>; }

}  // namespace needle::NEEDLE_ISA
