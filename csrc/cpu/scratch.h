// scratch.h: allocation of the kernels' scratch memory.
#pragma once

#include <cstddef>

namespace needle {

// Allocates `bytes`, a multiple of `alignment`; std::free releases them. If the system has no
// memory left, the pool of the arrays is emptied and the allocation is tried once more. Throws
// std::bad_alloc.
void* allocate_scratch(size_t bytes, size_t alignment);

}  // namespace needle
