// library.h: the functions of one floating-point number that every device takes from its C library.
//
// To add a function, add a line here, its NumPy counterpart in backend_ndarray/device_numpy.py and
// its op in needle/ops. The kernels of the CPU and the GPU and the code of needle.jit take it from
// this list.
#pragma once

// clang-format off
#define NEEDLE_LIBRARY_FUNCTIONS(X)                                                        \
  X(tan) X(asin) X(acos) X(atan) X(sinh) X(cosh) X(asinh) X(acosh) X(atanh) X(erfc) X(exp2) \
  X(log2) X(log10)
// clang-format on
