// scratch.h: per-thread memory for packed operands and partial sums.
//
// Contract: a buffer is 64-byte aligned and uninitialized. It keeps its contents until the next
// request for the same use, grows as needed and is freed when its thread ends.
//
// Idea: packed operands of many megabytes lie in huge pages. With small pages, a kernel that walks
// over them would miss in the TLB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "../../scratch.h"

namespace needle::NEEDLE_ISA {

namespace gemm_detail {

constexpr size_t HUGE_PAGE = 2 << 20;

// A 64-byte aligned buffer that grows on demand and is freed when its thread ends. A large buffer
// lies in huge pages.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  template <typename T>
  T* reserve(int64_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes > capacity_) {
      std::free(memory_);
      memory_ = nullptr, capacity_ = 0;
      const size_t unit = bytes < HUGE_PAGE ? 64 : HUGE_PAGE;
      memory_ = allocate_scratch((bytes + unit - 1) / unit * unit, unit);
#ifdef MADV_HUGEPAGE
      if (unit == HUGE_PAGE) madvise(memory_, bytes, MADV_HUGEPAGE);
#endif
      capacity_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  size_t capacity_ = 0;
};

// There is one buffer for each use, so that a kernel can hold several at a time. The uses from
// PATCHES on belong to kernels that call matrix products.
enum ScratchUse {
  PACKED_A,
  PACKED_B,
  BIAS,
  VECTOR,
  TRANSPOSED_C,
  PARTIAL_SUMS,
  PATCHES,
  TRANSPOSED,
  TRIMMED,
  SCRATCH_USES
};

// Returns room for `count` elements. It is valid until this thread asks for the same use again.
template <typename T>
T* scratch(ScratchUse use, int64_t count) {
  thread_local Scratch buffers[SCRATCH_USES];
  return buffers[use].reserve<T>(count);
}

}  // namespace gemm_detail

}  // namespace needle::NEEDLE_ISA
