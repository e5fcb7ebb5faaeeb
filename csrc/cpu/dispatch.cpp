// dispatch.cpp: chooses the instruction set at run time.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace needle {

extern const KernelTable TABLE_AVX512, TABLE_AVX2, TABLE_NEON, TABLE_PORTABLE;

namespace {

struct Level {
  const KernelTable* table;
  bool available;
};

// The instruction sets, from the fastest to the portable one that every processor has.
template <typename Visit>
const KernelTable* find_level(const Visit& visit) {
  const Level levels[] = {
#if defined(NEEDLE_X86)
      {&TABLE_AVX512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")},
      {&TABLE_AVX2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#elif defined(NEEDLE_NEON)
      {&TABLE_NEON, true},
#endif
      {&TABLE_PORTABLE, true}};
  for (const Level& level : levels) {
    if (level.available && visit(*level.table)) return level.table;
  }
  return nullptr;
}

const KernelTable& choose() {
  const char* wanted = std::getenv("NEEDLE_SIMD");
  const KernelTable* found = find_level(
      [&](const KernelTable& table) { return !wanted || std::string(wanted) == table.name; });
  if (found) return *found;
  throw std::invalid_argument("NEEDLE_SIMD names no instruction set of this processor");
}

}  // namespace

std::vector<std::string> simd_levels() {
  std::vector<std::string> names;
  find_level([&](const KernelTable& table) {
    names.emplace_back(table.name);
    return false;
  });
  return names;
}

const KernelTable& kernels() {
  static const KernelTable& table = choose();
  return table;
}

}  // namespace needle
