#include "buffer.h"

#include <algorithm>
#include <bit>
#include <new>

namespace needle {

namespace {

constexpr std::align_val_t ALIGNMENT{64};
constexpr size_t COLLECT_AFTER = size_t{256} << 20;

// Four classes to each power of two: at most a quarter of a block is unused.
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

Pool& Pool::instance() {
  static Pool* pool = new Pool;  // never destroyed: arrays may outlive static destructors
  return *pool;
}

void* Pool::take_pooled(size_t index) {
  const std::lock_guard lock(mutex_);
  if (index >= free_.size() || free_[index].empty()) return nullptr;
  void* block = free_[index].back();
  free_[index].pop_back();
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

void* Pool::allocate(size_t bytes, Collect collect) {
  const size_t index = size_class(bytes), size = class_bytes(index);
#ifndef NEEDLE_SANITIZE  // a recycled block would hide a use after free
  if (void* block = take_pooled(index)) return block;
  if (collect && should_collect(size)) {
    collect();
    live_after_collection_ = stats_.live_bytes;
    if (void* block = take_pooled(index)) return block;
  }
#endif
  void* block = ::operator new(size, ALIGNMENT);
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
  if (index >= free_.size()) free_.resize(index + 1);
  free_[index].push_back(block);
  stats_.pooled_bytes += class_bytes(index);
#endif
}

void Pool::empty_cache() {
  const std::lock_guard lock(mutex_);
  for (auto& blocks : free_) {
    for (void* block : blocks) ::operator delete(block, ALIGNMENT);
    blocks.clear();
  }
  stats_.pooled_bytes = 0;
}

MemoryStats Pool::stats() {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace needle
