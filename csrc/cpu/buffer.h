// buffer.h: the memory of arrays, recycled.
//
// Contract: blocks are 64-byte aligned. A freed block waits in the list of its size class for the
// next request of that class, so that a training loop asks the system for nothing after its first
// step. Giving a block back never allocates. Thread-safe, also across a fork.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

namespace needle {

struct MemoryStats {
  size_t live_bytes, pooled_bytes, peak_bytes, system_allocations;
};

// What was asked for, and where the rest of the memory is.
class OutOfMemory : public std::bad_alloc {
 public:
  OutOfMemory(size_t bytes, const MemoryStats& stats);
  const char* what() const noexcept override { return text_; }

 private:
  char text_[256];  // nothing can be allocated for it now
};

class Pool {
 public:
  // `collect` is called, without the lock, before the system is asked for memory once much was
  // asked for since the last time: it may free blocks (reference cycles of recorded graphs).
  using Collect = void (*)();

  static Pool& instance();
  // If the system has no memory, garbage is collected and the pool emptied before it is asked once
  // more. Throws OutOfMemory.
  void* allocate(size_t bytes, Collect collect);
  void release(void* block, size_t bytes);
  void empty_cache();
  MemoryStats stats();

 private:
  // A free block holds the pointer to the next one of its class.
  struct Free {
    Free* next;
  };
  static constexpr size_t CLASSES = 4 * 64;  // four to each power of two

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
