// sums.cuh: long sums whose error does not grow with their length; see csrc/cpu/kernels/sums.h.
//
// Contract: with unit roundoff u, a `RunningSum` of n floats is within 2·u·Σ|x| + O(n·u²)·Σ|x| of
// the exact one. Infinities and NaNs propagate as in a plain sum. Integers are added as they are.
//
// Idea: each addition takes back what the one before has added too much (W. Kahan, "Further remarks
// on reducing truncation errors", 1965). NVRTC reassociates nothing; where it fuses the product
// that is added with the subtraction, a term has one rounding less.
//
// A kernel that loads several numbers at a time adds those plainly first, so that compensation
// costs next to nothing. What its threads have is added as a tree, which loses at most
// log2(threads)·u·Σ|x|.
#pragma once

#include "common.cuh"

namespace needle {

template <class T>
struct RunningSum {
  T sum = T(0), lost = T(0);  // what has been added too much

  __device__ void add(T x) {
    if constexpr (is_float<T>) {
      const T rest = x - lost, next = sum + rest, error = (next - sum) - rest;
      sum = next;
      lost = error - error == T(0) ? error : T(0);  // an infinite sum has lost nothing
    } else {
      sum += x;
    }
  }
  __device__ void scale(T factor) { sum *= factor, lost *= factor; }
  __device__ T value() const { return sum; }
};

}  // namespace needle
