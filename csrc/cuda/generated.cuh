// generated.cuh: what the loops that needle.jit generates are written in.
#pragma once

#include "reduce.cuh"

#define INT64_C(x) x##LL

namespace std {  // as far as literals need it: there is no standard library

template <class T>
struct numeric_limits {
  static __device__ T infinity() { return needle::highest<T>(); }
  static __device__ T quiet_NaN() { return infinity() - infinity(); }
};

}  // namespace std

namespace needle {

using f::convert;

}  // namespace needle
