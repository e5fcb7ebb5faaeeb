// convolution.h: 2-d convolution and its two gradients, channels last.
//
// Contract: x (N, H, W, C) has any strides; w (KH, KW, C / groups, O), y and g (N, OH, OW, O), and
// every result are compact. Results are overwritten. Positions outside of the image count as zero
// (zero padding).
//
// Idea: a convolution is a matrix product of the patches of x, one row for each output pixel, with
// w as a (KH·KW·C/groups, O/groups) matrix (im2col; Chellapilla et al. 2006). The matrix of all
// patches would be KH·KW times the size of x, so only a chunk of rows that fits into L2 exists at a
// time, in the scratch memory of each thread. The gradient of x reverses this (col2im): g is
// multiplied by wᵀ, and the rows of the product are added to the pixels of their patches. Each
// thread owns whole images, so that no two threads write to the same pixel. The gradient of w sums
// patchesᵀ·g over the chunks; each thread has its own accumulators.
// Bound: that of the matrix product, plus one pass over the patches.
#pragma once

#include <cstring>

#include "../kernels.h"
#include "gemm.h"

namespace needle::NEEDLE_ISA {

namespace convolution_detail {

using gemm_detail::ceil_div;
using gemm_detail::part_start;
using gemm_detail::Product;
using gemm_detail::scratch;

constexpr int64_t PATCH_BYTES = 192 << 10;  // the size of a chunk of patches, a share of L2

struct Geometry {  // `padding` is the padding before the first pixel
  Pair stride, dilation, padding;
  int64_t groups;
};

template <typename T>
struct Problem {
  T* x;
  int64_t x_strides[4];
  int64_t images, height, width;
  int64_t kernel_height, kernel_width, channels, filters;  // channels and filters of one group
  int64_t out_height, out_width, groups;
  Geometry geometry;

  int64_t pixels() const { return out_height * out_width; }
  int64_t patch() const { return kernel_height * kernel_width * channels; }
  int64_t row_stride() const { return groups * filters; }  // of output pixels and of rows of w
  // Whether every patch is one pixel, so that x itself is the matrix of patches.
  bool pointwise() const {
    return kernel_height * kernel_width == 1 && geometry.stride[0] == 1 &&
           geometry.stride[1] == 1 && geometry.padding[0] == 0 && geometry.padding[1] == 0 &&
           out_height == height && out_width == width && x_strides[3] == 1 &&
           x_strides[2] == groups * channels && x_strides[1] == width * x_strides[2] &&
           x_strides[0] == height * x_strides[1];
  }
  int64_t chunk_rows() const {
    return std::max<int64_t>(
        PATCH_BYTES / static_cast<int64_t>(sizeof(T)) / std::max<int64_t>(patch(), 1), 16);
  }
};

template <typename T>
Problem<T> make_problem(const View& x, const View& w, const View& y, const Geometry& geometry) {
  Problem<T> p{};
  p.x = reinterpret_cast<T*>(x.data);
  std::copy_n(x.strides, 4, p.x_strides);
  p.images = x.shape[0], p.height = x.shape[1], p.width = x.shape[2];
  p.kernel_height = w.shape[0], p.kernel_width = w.shape[1], p.channels = w.shape[2];
  p.groups = geometry.groups, p.filters = w.shape[3] / p.groups;
  p.out_height = y.shape[1], p.out_width = y.shape[2];
  p.geometry = geometry;
  return p;
}

// ---- Trimming of kernel positions that never lie over the image -------------------------------

// The kernel positions [first, first + count), along the height and the width, that lie over the
// image for at least one output pixel. On small padded images they are few: on an image of one
// pixel, only the centre of a 3 x 3 kernel remains.
struct Taps {
  int64_t first[2], count[2];
};

// Whether at least one of `out` positions, which begin at `start` and are `stride` apart, lies in
// [0, size).
inline bool lies_over_image(int64_t size, int64_t out, int64_t stride, int64_t start) {
  const int64_t pixel = start >= 0 ? 0 : ceil_div(-start, stride);
  return pixel < out && start + pixel * stride < size;
}

template <typename T>
Taps taps_over_image(const Problem<T>& p) {
  const Geometry& g = p.geometry;
  const int64_t kernel[] = {p.kernel_height, p.kernel_width}, size[] = {p.height, p.width},
                out[] = {p.out_height, p.out_width};
  Taps taps{};
  for (int axis = 0; axis < 2; ++axis) {
    const auto used = [&](int64_t tap) {
      const int64_t start = tap * g.dilation[axis] - g.padding[axis];
      return lies_over_image(size[axis], out[axis], g.stride[axis], start);
    };
    int64_t first = 0, last = kernel[axis];
    while (first < last && !used(first)) ++first;
    while (last > first && !used(last - 1)) --last;
    taps.first[axis] = first, taps.count[axis] = last - first;
  }
  return taps;
}

// The same convolution with the kernel trimmed to `taps`. `for_each_tap_row` finds the weights of
// the trimmed kernel in the whole one.
template <typename T>
Problem<T> trimmed(Problem<T> p, const Taps& taps) {
  for (int axis = 0; axis < 2; ++axis)
    p.geometry.padding[axis] -= taps.first[axis] * p.geometry.dilation[axis];
  p.kernel_height = taps.count[0], p.kernel_width = taps.count[1];
  return p;
}

// Calls body(offset in the weights of the whole kernel, offset in those of the trimmed one,
// elements) for each row of the trimmed kernel.
template <typename T, typename Body>
void for_each_tap_row(const Problem<T>& whole, const Taps& taps, const Body& body) {
  const int64_t tap = whole.channels * whole.row_stride(), n = taps.count[1] * tap;
  for (int64_t y = 0; y < taps.count[0]; ++y) {
    body(((taps.first[0] + y) * whole.kernel_width + taps.first[1]) * tap, y * n, n);
  }
}

// Calls run(problem, weights) with the kernel trimmed to the positions that contribute to some
// output.
template <typename T, typename Run>
void with_trimmed_weights(const Problem<T>& p, const T* w, const Run& run) {
  const Taps taps = taps_over_image(p);
  const Problem<T> small = trimmed(p, taps);
  if (small.patch() == p.patch() || small.patch() == 0) return run(p, w);
  T* weights = scratch<T>(gemm_detail::TRIMMED, small.patch() * p.row_stride());
  for_each_tap_row(p, taps, [&](int64_t from, int64_t to, int64_t n) {
    std::copy_n(w + from, n, weights + to);
  });
  run(small, static_cast<const T*>(weights));
}

// Calls body(row, pixel, first, last) for each kernel row of each patch in [first_pixel,
// first_pixel + count). `row` is its place in the matrix of patches. `pixel` points at the position
// of kernel column 0 in the image. Kernel columns outside of [first, last) lie outside of the
// image.
template <typename T, typename Body>
void for_each_patch_row(const Problem<T>& p, int64_t group, int64_t first_pixel, int64_t count,
                        T* rows, const Body& body) {
  const Geometry& g = p.geometry;
  const int64_t row_size = p.kernel_width * p.channels;
  for (int64_t pixel = first_pixel; pixel < first_pixel + count; ++pixel) {
    const int64_t image = pixel / p.pixels(), oy = pixel % p.pixels() / p.out_width;
    const int64_t left = pixel % p.out_width * g.stride[1] - g.padding[1];
    const int64_t step = g.dilation[1];
    const int64_t first = std::min(p.kernel_width, left < 0 ? ceil_div(-left, step) : 0);
    const int64_t last = std::clamp(ceil_div(p.width - left, step), first, p.kernel_width);
    for (int64_t ky = 0; ky < p.kernel_height; ++ky, rows += row_size) {
      const int64_t y = oy * g.stride[0] - g.padding[0] + ky * g.dilation[0];
      const bool inside = y >= 0 && y < p.height;
      T* at = p.x + image * p.x_strides[0] + y * p.x_strides[1] + left * p.x_strides[2] +
              group * p.channels * p.x_strides[3];
      body(rows, at, inside ? first : 0, inside ? last : 0);
    }
  }
}

template <typename T>
void gather_patches(const Problem<T>& p, int64_t group, int64_t first_pixel, int64_t count,
                    T* rows) {
  const int64_t step = p.geometry.dilation[1] * p.x_strides[2], channel = p.x_strides[3];
  const bool whole_row = channel == 1 && step == p.channels;
  for_each_patch_row(
      p, group, first_pixel, count, rows, [&](T* row, const T* pixel, int64_t first, int64_t last) {
        std::fill_n(row, first * p.channels, T(0));
        std::fill_n(row + last * p.channels, (p.kernel_width - last) * p.channels, T(0));
        if (whole_row) {
          std::copy_n(pixel + first * step, (last - first) * p.channels, row + first * p.channels);
          return;
        }
        for (int64_t k = first; k < last; ++k) {
          for (int64_t c = 0; c < p.channels; ++c) {
            row[k * p.channels + c] = pixel[k * step + c * channel];
          }
        }
      });
}

// Scatter-adds the patches to their pixels in x, which is compact here.
template <typename T>
void scatter_patches(const Problem<T>& p, int64_t group, int64_t first_pixel, int64_t count,
                     T* rows) {
  const int64_t step = p.geometry.dilation[1] * p.x_strides[2];
  for_each_patch_row(p, group, first_pixel, count, rows,
                     [&](const T* row, T* pixel, int64_t first, int64_t last) {
                       if (step == p.channels) {
                         const int64_t n = (last - first) * p.channels;
                         T* to = pixel + first * step;
                         const T* from = row + first * p.channels;
                         for (int64_t i = 0; i < n; ++i) to[i] += from[i];
                         return;
                       }
                       for (int64_t k = first; k < last; ++k) {
                         for (int64_t c = 0; c < p.channels; ++c)
                           pixel[k * step + c] += row[k * p.channels + c];
                       }
                     });
}

// The patches of some pixels: gathered, or x itself if the convolution is pointwise.
template <typename T>
gemm_detail::Matrix<T> patches(const Problem<T>& p, int64_t group, int64_t first, int64_t count) {
  if (p.pointwise()) {
    return {p.x + first * p.x_strides[2] + group * p.channels, p.x_strides[2], 1};
  }
  T* rows = scratch<T>(gemm_detail::PATCHES, count * p.patch());
  gather_patches(p, group, first, count, rows);
  return {rows, p.patch(), 1};
}

// Calls body(first pixel, count) for chunks of [begin, end).
template <typename T, typename Body>
void for_each_chunk(const Problem<T>& p, int64_t begin, int64_t end, const Body& body) {
  const int64_t chunks = ceil_div(end - begin, p.chunk_rows());
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t first = begin + part_start(end - begin, chunks, i);
    body(first, begin + part_start(end - begin, chunks, i + 1) - first);
  }
}

// The number of threads that the work is worth.
template <typename T>
int64_t threads_for(const Problem<T>& p) {
  const int64_t work = p.images * p.pixels() * p.patch() * p.filters * p.groups;
  return gemm_detail::threads_for(work, gemm_detail::MIN_WORK_PER_THREAD);
}

template <typename T>
void forward(const Problem<T>& p, const T* w, T* y) {
  const int64_t total = p.images * p.pixels(), parts = std::min(threads_for(p), total);
  parallel_for(parts, [&](int64_t part) {
    for_each_chunk(p, part_start(total, parts, part), part_start(total, parts, part + 1),
                   [&](int64_t first, int64_t count) {
                     for (int64_t group = 0; group < p.groups; ++group) {
                       const int64_t column = group * p.filters;
                       gemm_detail::multiply(Product<T>{count,
                                                        p.filters,
                                                        p.patch(),
                                                        patches(p, group, first, count),
                                                        {w + column, p.row_stride(), 1},
                                                        y + first * p.row_stride() + column,
                                                        p.row_stride(),
                                                        nullptr,
                                                        false});
                     }
                   });
  });
}

template <typename T>
void input_gradient(const Problem<T>& p, const T* g, const T* w, T* dx) {
  const int64_t patch = p.patch(), parts = std::min(threads_for(p), p.images);
  const int64_t image_size = p.height * p.width * p.groups * p.channels;
  // wᵀ is computed once: (groups, filters, patch).
  T* transposed = scratch<T>(gemm_detail::TRANSPOSED, patch * p.row_stride());
  for (int64_t k = 0; k < patch; ++k) {
    for (int64_t o = 0; o < p.row_stride(); ++o)
      transposed[o * patch + k] = w[k * p.row_stride() + o];
  }
  parallel_for(parts, [&](int64_t part) {
    const int64_t begin = part_start(p.images, parts, part),
                  end = part_start(p.images, parts, part + 1);
    std::fill_n(dx + begin * image_size, (end - begin) * image_size, T(0));
    for_each_chunk(p, begin * p.pixels(), end * p.pixels(), [&](int64_t first, int64_t count) {
      T* rows = scratch<T>(gemm_detail::PATCHES, count * patch);
      for (int64_t group = 0; group < p.groups; ++group) {
        const int64_t column = group * p.filters;
        gemm_detail::multiply(Product<T>{count,
                                         patch,
                                         p.filters,
                                         {g + first * p.row_stride() + column, p.row_stride(), 1},
                                         {transposed + column * patch, patch, 1},
                                         rows,
                                         patch,
                                         nullptr,
                                         false});
        scatter_patches(p, group, first, count, rows);
      }
    });
  });
}

template <typename T>
void weight_gradient(const Problem<T>& p, const T* g, T* dw) {
  const int64_t total = p.images * p.pixels(), parts = std::min(threads_for(p), total);
  const int64_t size = p.patch() * p.row_stride();
  std::fill_n(dw, size, T(0));
  T* sums = scratch<T>(gemm_detail::PARTIAL_SUMS, (parts - 1) * size);
  std::fill_n(sums, (parts - 1) * size, T(0));
  parallel_for(parts, [&](int64_t part) {
    T* sum = part == 0 ? dw : sums + (part - 1) * size;
    for_each_chunk(p, part_start(total, parts, part), part_start(total, parts, part + 1),
                   [&](int64_t first, int64_t count) {
                     for (int64_t group = 0; group < p.groups; ++group) {
                       const int64_t column = group * p.filters;
                       const auto rows = patches(p, group, first, count);
                       gemm_detail::multiply(
                           Product<T>{p.patch(),
                                      p.filters,
                                      count,
                                      {rows.data, rows.col, rows.row},
                                      {g + first * p.row_stride() + column, p.row_stride(), 1},
                                      sum + column,
                                      p.row_stride(),
                                      nullptr,
                                      true});
                     }
                   });
  });
  for (int64_t part = 1; part < parts; ++part) {
    for (int64_t i = 0; i < size; ++i) dw[i] += sums[(part - 1) * size + i];
  }
}

}  // namespace convolution_detail

inline void conv2d(const View& x, const View& w, const View& y, Pair stride, Pair dilation,
                   Pair padding, int64_t groups) {
  NEEDLE_DISPATCH_FLOAT(x.dtype, {
    const auto p =
        convolution_detail::make_problem<T>(x, w, y, {stride, dilation, padding, groups});
    if (p.images * p.pixels() == 0) return;
    convolution_detail::with_trimmed_weights(
        p, reinterpret_cast<const T*>(w.data), [&](const auto& problem, const T* weights) {
          convolution_detail::forward(problem, weights, reinterpret_cast<T*>(y.data));
        });
  })
}

inline void conv2d_input_grad(const View& g, const View& w, const View& dx, Pair stride,
                              Pair dilation, Pair padding, int64_t groups) {
  NEEDLE_DISPATCH_FLOAT(g.dtype, {
    const auto p =
        convolution_detail::make_problem<T>(dx, w, g, {stride, dilation, padding, groups});
    if (p.images == 0) return;
    convolution_detail::with_trimmed_weights(
        p, reinterpret_cast<const T*>(w.data), [&](const auto& problem, const T* weights) {
          convolution_detail::input_gradient(problem, reinterpret_cast<const T*>(g.data), weights,
                                             reinterpret_cast<T*>(dx.data));
        });
  })
}

inline void conv2d_weight_grad(const View& x, const View& g, const View& dw, Pair stride,
                               Pair dilation, Pair padding, int64_t groups) {
  NEEDLE_DISPATCH_FLOAT(x.dtype, {
    const auto p =
        convolution_detail::make_problem<T>(x, dw, g, {stride, dilation, padding, groups});
    T* out = reinterpret_cast<T*>(dw.data);
    if (p.images * p.pixels() == 0) {
      std::fill_n(out, p.patch() * p.row_stride(), T(0));
      return;
    }
    const T* grad = reinterpret_cast<const T*>(g.data);
    const convolution_detail::Taps taps = convolution_detail::taps_over_image(p);
    const auto small = convolution_detail::trimmed(p, taps);
    if (small.patch() == p.patch() || small.patch() == 0) {
      return convolution_detail::weight_gradient(p, grad, out);
    }
    T* weights =
        convolution_detail::scratch<T>(gemm_detail::TRIMMED, small.patch() * p.row_stride());
    convolution_detail::weight_gradient(small, grad, weights);
    std::fill_n(out, p.patch() * p.row_stride(), T(0));
    convolution_detail::for_each_tap_row(p, taps, [&](int64_t to, int64_t from, int64_t n) {
      std::copy_n(weights + from, n, out + to);
    });
  })
}

}  // namespace needle::NEEDLE_ISA
