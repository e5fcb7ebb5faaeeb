// buffer.h: the caching allocator of the arrays' memory.
//
// Contract: blocks are 64-byte aligned. A freed block is kept in the free list of its size class
// for the next request of that class, so that a training loop allocates no system memory after its
// first step. Releasing a block never allocates. Thread-safe, also across a fork.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

namespace needle {

struct MemoryStats {
  size_t live_bytes, pooled_bytes, peak_bytes, system_allocations;
};

// The message states the requested size and the memory that is in use.
class OutOfMemory : public std::bad_alloc {
 public:
  OutOfMemory(size_t bytes, const MemoryStats& stats);
  const char* what() const noexcept override { return text_; }

 private:
  char text_[256];  // a fixed array, as no memory can be allocated
};

class Pool {
 public:
  // `collect` may free blocks that reference cycles of recorded graphs keep alive. It is called
  // without the lock, before system memory is allocated, if much memory was requested since the
  // last call.
  using Collect = void (*)();

  static Pool& instance();
  // If the system has no memory left, garbage is collected and the pool emptied, and the allocation
  // is tried once more. Throws OutOfMemory.
  void* allocate(size_t bytes, Collect collect);
  void release(void* block, size_t bytes);
  void empty_cache(size_t least = 0);  // gives free blocks of `least` bytes or more back
  MemoryStats stats();

 private:
  // A free block holds the pointer to the next free block of its class.
  struct Free {
    Free* next;
  };
  static constexpr size_t CLASSES = 4 * 64;  // four for each power of two

  Pool();
  void* take_pooled(size_t size_class);
  bool should_collect(size_t bytes);
  void* ask_system(size_t bytes, Collect collect);

  std::mutex mutex_;
  Free* free_[CLASSES] = {};
  MemoryStats stats_{};
  size_t new_bytes_ = 0, live_after_collection_ = 0;
};

}  // namespace needle
