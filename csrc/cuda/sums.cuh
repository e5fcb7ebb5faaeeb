// sums.cuh: long sums whose error does not grow with their length; see csrc/cpu/kernels/sums.h.
//
// Contract: with unit roundoff u, a `RunningSum` of n floats is within 2·u·Σ|x| + O(n·u²)·Σ|x| of
// the exact sum. Infinities and NaNs propagate as in a plain sum. Integers are added plainly.
//
// Idea: compensated summation. Each addition subtracts the rounding error of the previous one (W.
// Kahan, "Further remarks on reducing truncation errors", 1965). This is safe because NVRTC does
// not reassociate floating-point operations. Where x is a product, NVRTC may contract the product
// and `x - lost` into one FMA, which only saves a rounding.
//
// A kernel that loads several numbers at a time adds these plainly first, so that the compensation
// costs next to nothing. The sums of the threads are added as a tree, which adds an error of at
// most log2(threads)·u·Σ|x|.
#pragma once

#include "common.cuh"

namespace needle {

template <class T>
struct RunningSum {
  T sum = T(0), lost = T(0);  // lost: the rounding error of the last addition

  __device__ void add(T x) {
    if constexpr (is_float<T>) {
      const T rest = x - lost, next = sum + rest, error = (next - sum) - rest;
      sum = next;
      lost = error - error == T(0) ? error : T(0);  // no compensation once the sum is not finite
    } else {
      sum += x;
    }
  }
  __device__ void scale(T factor) { sum *= factor, lost *= factor; }
  __device__ T value() const { return sum; }
};

}  // namespace needle
