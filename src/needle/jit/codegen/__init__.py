"""Kernels as text: C++ for `cpu()`, CUDA C++ for `cuda()`."""
