// Runs the blocks of a launch on the calling host thread.
#pragma once

#include <string>

#include "runtime.h"

namespace emulator {

struct Launch {
  std::string name;
  const Kernel* kernel;
  Index grid, block;
  unsigned shared_bytes;
};

/// CUDA_SUCCESS, CUDA_ERROR_LAUNCH_FAILED or CUDA_ERROR_ILLEGAL_ADDRESS, and a sentence for stderr.
struct Outcome {
  int code;
  std::string message;
};

/// Runs all threads of all blocks in the order that NEEDLE_EMULATOR_ORDER asks for.
Outcome run(const Launch& launch, void** parameters);

}  // namespace emulator
