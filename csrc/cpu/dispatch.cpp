// dispatch.cpp: chooses the instruction set at run time.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

#if defined(NEEDLE_BF16)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace needle {

// CMake lists the instruction sets that were built, from the fastest on, as X(avx2) X(portable).
// families/table.cpp makes the table of each.
#define X(isa)                              \
  namespace isa {                           \
  KernelTable make_table(const char* name); \
  }
NEEDLE_LEVELS
#undef X

namespace avx512_bf16 {  // families/products16.cpp
void add_amx_products(KernelTable& table);
void add_dot_products(KernelTable& table);
}  // namespace avx512_bf16

namespace {

struct Level {
  const char* name;
  KernelTable (*make_table)(const char* name);
};

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

bool processor_has([[maybe_unused]] const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return has_avx512();
  if (isa == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return true;
}

#if defined(NEEDLE_BF16)
// Bits of CPUID's leaf 7 (Intel SDM, volume 2A): of EAX of subleaf 1, of EDX of subleaf 0.
constexpr unsigned AVX512_BF16 = 1u << 5, AMX_BF16 = 1u << 22, AMX_TILE = 1u << 24;

bool has_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX512_BF16);
}

// Linux gives the state of AMX's tiles, 8 KiB for each thread, to processes that ask for it. All
// threads of the process have it then, and those of its forks (Linux, arch/x86/xstate).
bool may_use_amx() {
#ifdef __linux__
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool has_amx = has_avx512_bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
                       (d & AMX_BF16) && (d & AMX_TILE);
  return has_amx && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return false;
#endif
}

// The levels that have AVX-512's kernels, and products of bfloat16 of their own.
template <auto add>
KernelTable avx512_with(const char* name) {
  KernelTable table = avx512::make_table(name);
  add(table);
  return table;
}
#endif

// The instruction sets of this processor, from the fastest to the portable one that all have.
std::vector<Level> levels() {
  std::vector<Level> found;
#if defined(NEEDLE_BF16)
  static const bool has_amx = may_use_amx();
  if (has_amx) found.push_back({"amx", avx512_with<avx512_bf16::add_amx_products>});
  if (has_avx512_bf16())
    found.push_back({"avx512_bf16", avx512_with<avx512_bf16::add_dot_products>});
#endif
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
  NEEDLE_CHECK(matmul16)
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
