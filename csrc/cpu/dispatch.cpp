// dispatch.cpp: chooses the instruction set at run time.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace needle {

// CMake lists the instruction sets that were built, from the fastest on, as X(avx2) X(portable).
// families/table.cpp makes the table of each.
#define X(isa)                              \
  namespace isa {                           \
  KernelTable make_table(const char* name); \
  }
NEEDLE_LEVELS
#undef X

namespace {

struct Level {
  const char* name;
  KernelTable (*make_table)(const char* name);
};

bool processor_has([[maybe_unused]] const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return true;
}

// The instruction sets of this processor, from the fastest to the portable one that all have.
std::vector<Level> levels() {
  std::vector<Level> found;
#define X(isa) \
  if (processor_has(#isa)) found.push_back({#isa, isa::make_table});
  NEEDLE_LEVELS
#undef X
  return found;
}

// The table of a level, in which a family may have forgotten a kernel.
KernelTable complete_table(const Level& level) {
  const KernelTable table = level.make_table(level.name);
#define NEEDLE_CHECK(name, ...) \
  if (!table.name) throw std::logic_error("no family adds the kernel " #name);
  NEEDLE_KERNELS(NEEDLE_CHECK)
#undef NEEDLE_CHECK
  return table;
}

KernelTable choose() {
  const char* wanted = std::getenv("NEEDLE_SIMD");
  for (const Level& level : levels()) {
    if (!wanted || std::string(wanted) == level.name) return complete_table(level);
  }
  throw std::invalid_argument(
      wanted ? "NEEDLE_SIMD names no instruction set of this processor"
             : "needle was built for other processors (NEEDLE_ISA); build it again");
}

}  // namespace

std::vector<std::string> simd_levels() {
  std::vector<std::string> names;
  for (const Level& level : levels()) names.emplace_back(level.name);
  return names;
}

const KernelTable& kernels() {
  static const KernelTable table = choose();
  return table;
}

}  // namespace needle
