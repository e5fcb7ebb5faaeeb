// What a compiled kernel library and the emulated driver know of each other.
//
// Included by the driver and, through shim.h, by every kernel: it includes nothing itself.
#pragma once

namespace emulator {

/// Laid out as CUDA's uint3 and dim3.
struct Index {
  unsigned x, y, z;
};

/// The functions of the driver that a kernel calls. `what`, `file` and `line` name the call in
/// messages, and threads meet only in the same call.
struct Runtime {
  /// Waits for all threads of the block; returns for how many of them `predicate` holds.
  int (*barrier)(const char* what, bool predicate, const char* file, int line);
  /// Waits for all lanes in `mask`; returns the `value` of lane `source`, or with `source` -1 the
  /// set of lanes whose value is not 0.
  unsigned long long (*collective)(const char* what, unsigned mask, unsigned long long value,
                                   int source, const char* file, int line);
  /// The lanes of the calling thread's warp that have not ended.
  unsigned (*active)();
};

/// The variables of a kernel library that the driver writes before it runs a thread.
struct Library {
  Index *thread, *block, *block_size, *grid_size;
  char** dynamic_shared;
  char *shared_begin, *shared_end;  // the __shared__ variables of all kernels of the library
  const Runtime** runtime;
};

/// One kernel, exported as `emulator_kernel_<name>`.
struct Kernel {
  void (*function)();
  void (*invoke)(void (*function)(), void** parameters);
  const unsigned* sizes;  // of the parameters, in bytes
  int parameters;
  const Library* library;
};

}  // namespace emulator
