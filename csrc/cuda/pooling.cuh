// pooling.cuh: 2-d max and average pooling, and the gradients.
//
// Contract: the same as that of needle/backend_ndarray/reference.py. An image x (N, H, W, C) may
// have any strides. Arrays of the shape of the result, (N, OH, OW, C), and gradients of images are
// contiguous. Results are overwritten.
//
// Idea: each thread computes one element, and neighbouring threads have neighbouring channels, so
// that accesses are coalesced. A pixel gathers its gradient from the windows that contain it, in a
// fixed order, so that no atomics are needed.
//
// Bound: memory bandwidth; pixels that several windows share are read again from the caches.
#pragma once

#include "reduce.cuh"

namespace needle {

// The shapes of image and result, and the parameters of the window, each as {y, x}. `padding` is
// the padding at the top and on the left.
struct Pooling {
  Shape<4> image, result;
  int64_t kernel[2], stride[2], dilation[2], padding[2];
};

// Calls body(i, index) for each element of an array, in a grid-stride loop.
template <class Index, class Body>
__device__ void each_element(const Shape<4>& shape, Body body) {
  const Index size = static_cast<Index>(shape.n[0] * shape.n[1] * shape.n[2] * shape.n[3]);
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    Index index[4];
    unravel(i, shape, index);
    body(i, index);
  }
}

// Calls visit(pixel, inside) for each pixel of the window of a result element. Pixels in the
// padding have the value `outside`, and `inside` is false for them. HEIGHT and WIDTH are the size
// of a small window, known at compile time, so that the loads of all its pixels are in flight
// together; they are 0 for larger windows.
template <int HEIGHT, int WIDTH, class Index, class T, class Visit>
__device__ void each_below(const Pooling& p, const Array<const T, 4>& x, const Index (&place)[4],
                           T outside, Visit visit) {
  const int height = HEIGHT ? HEIGHT : static_cast<int>(p.kernel[0]);
  const int width = WIDTH ? WIDTH : static_cast<int>(p.kernel[1]);
  const int top = static_cast<int>(place[1] * p.stride[0] - p.padding[0]);
  const int left = static_cast<int>(place[2] * p.stride[1] - p.padding[1]);
  const T* image = x.data + place[0] * x.stride[0] + place[3] * x.stride[3];
#pragma unroll
  for (int i = 0; i < height; ++i) {
    const int y = top + i * static_cast<int>(p.dilation[0]);
    const T* row = image + y * x.stride[1];
#pragma unroll
    for (int j = 0; j < width; ++j) {
      const int across = left + j * static_cast<int>(p.dilation[1]);
      const bool inside = y >= 0 && y < p.image.n[1] && across >= 0 && across < p.image.n[2];
      visit(inside ? row[across * x.stride[2]] : outside, inside);
    }
  }
}

// The positions [first, end) along one axis of the result whose windows may contain a pixel.
struct Covering {
  int first, end, stride, dilation, pixel;

  __device__ Covering(const Pooling& p, int side, int64_t place)
      : stride(static_cast<int>(p.stride[side])), dilation(static_cast<int>(p.dilation[side])) {
    const int reach = (static_cast<int>(p.kernel[side]) - 1) * dilation + 1;
    pixel = static_cast<int>(place + p.padding[side]);  // counted from the edge of the padding
    first = pixel < reach ? 0 : (pixel - reach) / stride + 1;
    const int last = pixel / stride, most = static_cast<int>(p.result.n[1 + side]) - 1;
    end = (last < most ? last : most) + 1;
  }

  // Whether the window at `place` contains the pixel. A dilated window has gaps.
  __device__ bool meets(int place) const {
    return dilation == 1 || (pixel - place * stride) % dilation == 0;
  }
};

// Calls visit(i) for each element of the result whose window contains the pixel.
template <class Index, class Visit>
__device__ void each_above(const Pooling& p, const Index (&pixel)[4], Visit visit) {
  const Covering rows(p, 0, pixel[1]), columns(p, 1, pixel[2]);
  for (int y = rows.first; y < rows.end; ++y) {
    if (!rows.meets(y)) continue;
    for (int x = columns.first; x < columns.end; ++x) {
      if (!columns.meets(x)) continue;
      const Index line = (pixel[0] * p.result.n[1] + y) * p.result.n[2] + x;
      visit(line * static_cast<Index>(p.result.n[3]) + pixel[3]);
    }
  }
}

// a == b, except that NaN equals NaN.
template <class T>
__device__ bool same(T a, T b) {
  return a == b || (a != a && b != b);
}

template <int HEIGHT, int WIDTH, class Index, class T>
__device__ void max_pool2d(const Pooling& p, const Array<const T, 4>& x, T* out, T* ties) {
  each_element<Index>(p.result, [&](Index i, const Index(&place)[4]) {
    T top = lowest<T>();
    int count = 0;
    each_below<HEIGHT, WIDTH>(p, x, place, lowest<T>(), [&](T value, bool inside) {
      if (value > top || (value != value && top == top))
        top = value, count = 1;
      else
        count += inside && same(value, top);
    });
    out[i] = top, ties[i] = T(count);
  });
}

// All pixels of a window that equal its maximum share the gradient equally. In a window that
// contains NaN, the maximum is NaN and the NaN pixels share the gradient.
template <class Index, class T>
__device__ void max_pool2d_grad(const Pooling& p, const T* g, const Array<const T, 4>& x,
                                const T* out, const T* ties, T* dx) {
  each_element<Index>(p.image, [&](Index i, const Index(&pixel)[4]) {
    const T value = x.at(pixel);
    T sum = 0;
    each_above(p, pixel, [&](Index j) { sum += g[j] * (T(same(value, out[j])) / ties[j]); });
    dx[i] = sum;
  });
}

template <int HEIGHT, int WIDTH, class Index, class T>
__device__ void avg_pool2d(const Pooling& p, const Array<const T, 4>& x, T* out) {
  const T share = T(1) / T(p.kernel[0] * p.kernel[1]);
  each_element<Index>(p.result, [&](Index i, const Index(&place)[4]) {
    T sum = 0;
    each_below<HEIGHT, WIDTH>(p, x, place, T(0), [&](T value, bool) { sum += value; });
    out[i] = sum * share;
  });
}

template <class Index, class T>
__device__ void avg_pool2d_grad(const Pooling& p, const T* g, T* dx) {
  const T share = T(1) / T(p.kernel[0] * p.kernel[1]);
  each_element<Index>(p.image, [&](Index i, const Index(&pixel)[4]) {
    T sum = 0;
    each_above(p, pixel, [&](Index j) { sum += g[j] * share; });
    dx[i] = sum;
  });
}

}  // namespace needle
