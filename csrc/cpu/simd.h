// simd.h: the register width of the instruction set that is being compiled.
//
// A vector type wider than a register would compile, but GCC would move it through memory.
#pragma once

namespace needle::NEEDLE_ISA {

#if defined(__AVX512F__)
constexpr int REGISTER_BYTES = 64;
#elif defined(__AVX2__)
constexpr int REGISTER_BYTES = 32;
#else
constexpr int REGISTER_BYTES = 16;
#endif

}  // namespace needle::NEEDLE_ISA
