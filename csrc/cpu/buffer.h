// buffer.h: the memory of arrays, recycled.
//
// Contract: blocks are 64-byte aligned. A freed block waits in the list of its size class for the
// next request of that class, so that a training loop asks the system for nothing after its first
// step. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace needle {

struct MemoryStats {
  size_t live_bytes, pooled_bytes, peak_bytes, system_allocations;
};

class Pool {
 public:
  // `collect` is called, without the lock, before the system is asked for memory once much was
  // asked for since the last time: it may free blocks (reference cycles of recorded graphs).
  using Collect = void (*)();

  static Pool& instance();
  void* allocate(size_t bytes, Collect collect);
  void release(void* block, size_t bytes);
  void empty_cache();
  MemoryStats stats();

 private:
  void* take_pooled(size_t size_class);
  bool should_collect(size_t bytes);

  std::mutex mutex_;
  std::vector<std::vector<void*>> free_;  // by size class
  MemoryStats stats_{};
  size_t new_bytes_ = 0, live_after_collection_ = 0;
};

}  // namespace needle
