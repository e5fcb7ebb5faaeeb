#include "buffer.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "scratch.h"

#ifndef _WIN32
#include <pthread.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace needle {

namespace {

constexpr std::align_val_t ALIGNMENT{64};
constexpr size_t COLLECT_AFTER = size_t{256} << 20;

// Each power of two has four size classes, so that at most a quarter of a block is unused.
size_t size_class(size_t bytes) {
  const size_t units = (std::max<size_t>(bytes, 1) + 63) / 64;
  if (units <= 4) return units - 1;
  const int log = std::bit_width(units - 1) - 1;  // 2^log < units <= 2^(log + 1)
  const size_t step = size_t{1} << (log - 2);
  return 4 * (log - 1) + (units - (size_t{1} << log) + step - 1) / step - 1;
}

size_t class_bytes(size_t index) {
  if (index < 4) return (index + 1) * 64;
  const size_t log = index / 4 + 1;
  return ((size_t{1} << log) + (index % 4 + 1) * (size_t{1} << (log - 2))) * 64;
}

}  // namespace

OutOfMemory::OutOfMemory(size_t bytes, const MemoryStats& stats) {
  std::snprintf(text_, sizeof text_,
                "cpu() has no memory for %zu bytes: %zu bytes are in use by arrays, and the %zu "
                "bytes of the pool were given back before the second try",
                bytes, stats.live_bytes, stats.pooled_bytes);
}

// The fork handlers hold the lock, so that a forked child gets a pool in a consistent state.
Pool::Pool() {
#ifndef _WIN32
  pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                 [] { instance().mutex_.unlock(); });
#endif
}

Pool& Pool::instance() {
  static Pool* pool = new Pool;  // never destroyed: arrays may outlive static destructors
  return *pool;
}

void* Pool::take_pooled(size_t index) {
  const std::lock_guard lock(mutex_);
  Free* block = free_[index];
  if (block == nullptr) return nullptr;
  free_[index] = block->next;
  stats_.pooled_bytes -= class_bytes(index);
  stats_.live_bytes += class_bytes(index);
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
  return block;
}

bool Pool::should_collect(size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (new_bytes_ + bytes <= std::max(COLLECT_AFTER, live_after_collection_)) return false;
  new_bytes_ = 0;
  return true;
}

void* Pool::ask_system(size_t bytes, Collect collect) {
  if (void* block = ::operator new(bytes, ALIGNMENT, std::nothrow)) return block;
  const MemoryStats before = stats();
  if (collect) collect();
  empty_cache();
  if (void* block = ::operator new(bytes, ALIGNMENT, std::nothrow)) return block;
  throw OutOfMemory(bytes, before);
}

void* Pool::allocate(size_t bytes, Collect collect) {
  const size_t index = size_class(bytes), size = class_bytes(index);
#ifndef NEEDLE_SANITIZE  // a reused block would hide a use after free
  if (void* block = take_pooled(index)) return block;
  if (collect && should_collect(size)) {
    collect();
    live_after_collection_ = stats_.live_bytes;
    if (void* block = take_pooled(index)) return block;
  }
#endif
  void* block = ask_system(size, collect);
  const std::lock_guard lock(mutex_);
  new_bytes_ += size;
  ++stats_.system_allocations;
  stats_.live_bytes += size;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
  return block;
}

void Pool::release(void* block, size_t bytes) {
  const size_t index = size_class(bytes);
  const std::lock_guard lock(mutex_);
  stats_.live_bytes -= class_bytes(index);
#ifdef NEEDLE_SANITIZE
  ::operator delete(block, ALIGNMENT);
#else
  free_[index] = new (block) Free{free_[index]};
  stats_.pooled_bytes += class_bytes(index);
#endif
}

void Pool::empty_cache(size_t least) {
  const std::lock_guard lock(mutex_);
  for (size_t index = size_class(least); index < std::size(free_); ++index) {
    while (Free* const first = free_[index]) {
      free_[index] = first->next;
      stats_.pooled_bytes -= class_bytes(index);
      ::operator delete(first, ALIGNMENT);
    }
  }
#ifdef __GLIBC__
  malloc_trim(0);  // which else keeps up to 64 MiB of freed memory
#endif
}

void* allocate_scratch(size_t bytes, size_t alignment) {
  if (void* memory = std::aligned_alloc(alignment, bytes)) return memory;
  const MemoryStats before = Pool::instance().stats();
  Pool::instance().empty_cache();
  if (void* memory = std::aligned_alloc(alignment, bytes)) return memory;
  throw OutOfMemory(bytes, before);
}

MemoryStats Pool::stats() {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace needle
