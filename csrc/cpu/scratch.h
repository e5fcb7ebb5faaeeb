// scratch.h: where kernels get the memory that they work in.
#pragma once

#include <cstddef>

namespace needle {

// `bytes`, a multiple of `alignment`, for std::free. If the system has none, the pool of arrays is
// emptied before it is asked once more. Throws std::bad_alloc.
void* allocate_scratch(size_t bytes, size_t alignment);

}  // namespace needle
