// convolution.cuh: 2-d convolution and its two gradients, channels last, as products of matrices
// that exist only tile by tile ("implicit GEMM"; Chetlur et al., "cuDNN", 2014).
//
// Contract: that of csrc/cpu/kernels/convolution.h. x (N, H, W, C) has any strides; w
// (KH, KW, C / groups, O), g (N, OH, OW, O) and every result are compact. Results are overwritten.
// Positions outside of the image count as zero.
//
// For each group of channels
//   conv2d:             y (pixels, filters)    = patches (pixels, taps) · w (taps, filters)
//   conv2d_input_grad:  dx (pixels, channels)  = spread (pixels, taps) · wᵀ (taps, channels)
//   conv2d_weight_grad: dw (taps, filters)     = patchesᵀ (taps, pixels) · g (pixels, filters)
// where a tap is a position of the kernel and a channel (a filter in `spread`). Tiles are those of
// gemm.cuh, but narrower where there are few columns. The numbers of a panel are found by
// arithmetic on their row and depth; a thread keeps what it knows of the one that stays the same.
// The gradient of x collects what reaches a pixel, that of w sums over all pixels or over fixed
// parts of them, which are added up afterwards: nothing is added with atomics.
// Bound: arithmetic; with few channels or filters a group, the loads of panels that stay empty.
#pragma once

#include "gemm.cuh"

namespace needle {

struct Convolution {
  int64_t images, height, width;
  int64_t kernel_height, kernel_width, channels, filters, groups;  // channels, filters of a group
  int64_t out_height, out_width;
  int64_t stride_y, stride_x, dilation_y, dilation_x, top, left;

  __device__ int64_t row() const { return groups * filters; }  // of y, g and w
  __device__ int64_t kernel() const { return kernel_height * kernel_width; }
  __device__ int64_t in_pixels() const { return images * height * width; }
  __device__ int64_t out_pixels() const { return images * out_height * out_width; }
};

constexpr int NOWHERE = 1 << 29;  // a coordinate beyond any image, also with another one added

// A pixel of some image and where a kernel lies on it.
template <class T>
struct Pixel {
  const T* image;
  int y, x;
};

// A position of the kernel, and the offset of a channel.
struct Tap {
  int64_t channel;
  int y, x;
};

template <class T, class Index>
struct Places {
  const Convolution& p;
  const T* data;
  int64_t image_stride, y_stride, x_stride, channel_stride;

  // Tap `i` of a kernel over so many channels; one that there is not lies nowhere.
  __device__ Tap tap(Index i, Index taps, int64_t channels) const {
    if (i >= taps) return {0, NOWHERE, NOWHERE};
    const Index n = static_cast<Index>(channels), at = i / n;
    const Index y = at / static_cast<Index>(p.kernel_width);
    const Index x = at - y * static_cast<Index>(p.kernel_width);
    return {static_cast<int64_t>(i - at * n) * channel_stride,
            static_cast<int>(y) * static_cast<int>(p.dilation_y),
            static_cast<int>(x) * static_cast<int>(p.dilation_x)};
  }

  // Pixel `i` of images of that size.
  __device__ Pixel<T> pixel(Index i, Index pixels, int64_t height, int64_t width) const {
    if (i >= pixels) return {data, -NOWHERE, -NOWHERE};
    const Index row = i / static_cast<Index>(width), image = row / static_cast<Index>(height);
    return {data + static_cast<int64_t>(image) * image_stride,
            static_cast<int>(row - image * static_cast<Index>(height)),
            static_cast<int>(i - row * static_cast<Index>(width))};
  }
};

// ---- operands: what lies at a row and a depth -------------------------------------------------

// The pixels of x below the kernel. Rows are output pixels, or taps if TURNED.
template <class T, class Index, bool TURNED>
struct Patches : Places<T, Index> {
  static constexpr bool ALONG_DEPTH = !TURNED;  // how neighbouring threads read
  Index rows, depth;                            // pixels and taps, taps and pixels if TURNED

  __device__ Pixel<T> output(Index i, Index pixels) const {
    const Convolution& p = this->p;
    Pixel<T> found = this->pixel(i, pixels, p.out_height, p.out_width);
    if (found.y < 0) return found;
    found.y = found.y * static_cast<int>(p.stride_y) - static_cast<int>(p.top);
    found.x = found.x * static_cast<int>(p.stride_x) - static_cast<int>(p.left);
    return found;
  }
  __device__ auto row(Index i) const {
    if constexpr (TURNED)
      return this->tap(i, rows, this->p.channels);
    else
      return output(i, rows);
  }
  __device__ auto down(Index k) const {
    if constexpr (TURNED)
      return output(k, depth);
    else
      return this->tap(k, depth, this->p.channels);
  }
  __device__ T at(const Pixel<T>& pixel, const Tap& tap) const {
    const int y = pixel.y + tap.y, x = pixel.x + tap.x;
    const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(this->p.height) &&
                        static_cast<unsigned>(x) < static_cast<unsigned>(this->p.width);
    return inside ? pixel.image[y * this->y_stride + x * this->x_stride + tap.channel] : T(0);
  }
  __device__ T at(const Tap& tap, const Pixel<T>& pixel) const { return at(pixel, tap); }
};

// What g has for a pixel of the image (a row) through each tap (of a kernel over filters).
template <class T, class Index>
struct Spread : Places<T, Index> {
  static constexpr bool ALONG_DEPTH = true;
  Index rows, depth;

  __device__ Pixel<T> row(Index i) const {
    Pixel<T> found = this->pixel(i, rows, this->p.height, this->p.width);
    found.y += static_cast<int>(this->p.top), found.x += static_cast<int>(this->p.left);
    return found;
  }
  __device__ Tap down(Index k) const { return this->tap(k, depth, this->p.filters); }
  __device__ T at(const Pixel<T>& pixel, const Tap& tap) const {
    const int dy = pixel.y - tap.y, dx = pixel.x - tap.x;
    if (dy < 0 || dx < 0) return T(0);
    const int stride_y = static_cast<int>(this->p.stride_y);
    const int stride_x = static_cast<int>(this->p.stride_x);
    const int y = stride_y == 1 ? dy : dy / stride_y, x = stride_x == 1 ? dx : dx / stride_x;
    const bool hit =
        y * stride_y == dy && x * stride_x == dx && y < this->p.out_height && x < this->p.out_width;
    return hit ? pixel.image[y * this->y_stride + x * this->x_stride + tap.channel] : T(0);
  }
};

// Columns of a group's filters in w or g: row j, depth k is data[k·stride + j].
template <class T, class Index>
struct Columns {
  static constexpr bool ALONG_DEPTH = false;
  const T* data;
  int64_t stride;
  Index rows, depth;

  __device__ int64_t row(Index j) const { return j < rows ? static_cast<int64_t>(j) : -1; }
  __device__ int64_t down(Index k) const { return k < depth ? k * stride : -1; }
  __device__ T at(int64_t j, int64_t k) const { return j < 0 || k < 0 ? T(0) : data[j + k]; }
};

// w as (channels, taps): row c, depth (tap, filter).
template <class T, class Index>
struct TurnedWeights {
  static constexpr bool ALONG_DEPTH = true;
  const T* data;
  int64_t stride;  // from channel to channel
  Index rows, depth, filters;

  __device__ int64_t row(Index c) const { return c < rows ? c * stride : -1; }
  __device__ int64_t down(Index k) const {
    if (k >= depth) return -1;
    const Index tap = k / filters;
    return static_cast<int64_t>(tap) * rows * stride + (k - tap * filters);
  }
  __device__ T at(int64_t c, int64_t k) const { return c < 0 || k < 0 ? T(0) : data[c + k]; }
};

// ---- the product ------------------------------------------------------------------------------

// A thread's share of the panels (DEPTH × SIZE) of an operand, as PanelLoader.
template <class T, class Index, int SIZE, class Operand>
struct Gathered {
  using S = Tiles<T>;
  static constexpr int LOADS = SIZE * S::DEPTH / S::THREADS;
  static constexpr bool DEEP = Operand::ALONG_DEPTH;
  static constexpr int HOP = DEEP ? S::THREADS / S::DEPTH : S::THREADS / SIZE;
  using Row = decltype(static_cast<const Operand*>(nullptr)->row(Index(0)));
  const Operand& operand;
  Row rows[DEEP ? LOADS : 1];
  int i, k;

  __device__ Gathered(const Operand& x, Index first) : operand(x) {
    const int t = threadIdx.x;
    i = DEEP ? t / S::DEPTH : t % SIZE, k = DEEP ? t % S::DEPTH : t / SIZE;
#pragma unroll
    for (int j = 0; j < (DEEP ? LOADS : 1); ++j) rows[j] = x.row(first + i + j * HOP);
  }

  __device__ void load(Index depth, T (&loaded)[LOADS]) const {
    if constexpr (DEEP) {
      const auto down = operand.down(depth + k);
#pragma unroll
      for (int j = 0; j < LOADS; ++j) loaded[j] = operand.at(rows[j], down);
    } else {
#pragma unroll
      for (int j = 0; j < LOADS; ++j) {
        loaded[j] = operand.at(rows[0], operand.down(depth + k + j * HOP));
      }
    }
  }

  __device__ void store(const T (&loaded)[LOADS], T (&panel)[S::DEPTH][SIZE + 1]) const {
#pragma unroll
    for (int j = 0; j < LOADS; ++j) {
      panel[k + (DEEP ? 0 : j * HOP)][i + (DEEP ? j * HOP : 0)] = loaded[j];
    }
  }
};

// A tile of out = a · b over depths [begin, end): rows from i0, COLS × SIDE columns from j0. `out`
// is the first of the m × n results, whose rows lie out_row apart.
template <int COLS, class T, class Index, class A, class B>
__device__ void gathered_product(const A& a, const B& b, Index i0, Index j0, Index begin, Index end,
                                 T* out, int64_t out_row) {
  using S = Tiles<T>;
  constexpr int WIDE = COLS * S::SIDE;
  __shared__ T left[2][S::DEPTH][S::TILE + 1], right[2][S::DEPTH][WIDE + 1];
  const int ty = threadIdx.x / S::SIDE, tx = threadIdx.x % S::SIDE;
  const Gathered<T, Index, S::TILE, A> a_panels(a, i0);
  const Gathered<T, Index, WIDE, B> b_panels(b, j0);
  T sums[S::ROWS][COLS] = {}, next_left[a_panels.LOADS], next_right[b_panels.LOADS];
  a_panels.load(begin, next_left), b_panels.load(begin, next_right);
  int place = 0;
  for (Index k = begin; k < end; place ^= 1) {
    a_panels.store(next_left, left[place]), b_panels.store(next_right, right[place]);
    __syncthreads();
    k += S::DEPTH;
    if (k < end) a_panels.load(k, next_left), b_panels.load(k, next_right);
#pragma unroll
    for (int d = 0; d < S::DEPTH; ++d) {
      T y[COLS];
#pragma unroll
      for (int c = 0; c < COLS; ++c) y[c] = right[place][d][tx + c * S::SIDE];
#pragma unroll
      for (int r = 0; r < S::ROWS; ++r) {
        const T x = left[place][d][ty + r * S::SIDE];
#pragma unroll
        for (int c = 0; c < COLS; ++c) sums[r][c] += x * y[c];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < S::ROWS; ++r) {
#pragma unroll
    for (int c = 0; c < COLS; ++c) {
      const Index i = i0 + ty + r * S::SIDE, j = j0 + tx + c * S::SIDE;
      if (i < a.rows && j < b.rows) out[static_cast<int64_t>(i) * out_row + j] = sums[r][c];
    }
  }
}

// Which tile of which group, and of which part of the depth, a block computes.
template <class T, int COLS, class Index>
struct Block {
  Index i, j;
  int64_t group, part;

  __device__ Block(int64_t m, int64_t n, int64_t groups) {
    constexpr int WIDE = COLS * Tiles<T>::SIDE;
    const int64_t down = (m + Tiles<T>::TILE - 1) / Tiles<T>::TILE, across = (n + WIDE - 1) / WIDE;
    const int64_t b = blockIdx.x, rest = b / across / down;
    i = static_cast<Index>(b / across % down * Tiles<T>::TILE);
    j = static_cast<Index>(b % across * WIDE);
    group = rest % groups, part = rest / groups;
  }
};

template <int COLS, class Index, class T>
__device__ void conv2d(const Convolution& p, const Array<const T, 4>& x, const T* w, T* out) {
  const int64_t m = p.out_pixels(), k = p.kernel() * p.channels, n = p.filters;
  const Block<T, COLS, Index> b(m, n, p.groups);
  const int64_t (&s)[4] = x.stride;
  const T* first = x.data + b.group * p.channels * s[3];
  const auto rows = static_cast<Index>(m), depth = static_cast<Index>(k);
  const Patches<T, Index, false> patches{{p, first, s[0], s[1], s[2], s[3]}, rows, depth};
  const Columns<T, Index> weights{w + b.group * n, p.row(), static_cast<Index>(n), depth};
  gathered_product<COLS>(patches, weights, b.i, b.j, Index(0), depth, out + b.group * n, p.row());
}

template <int COLS, class Index, class T>
__device__ void conv2d_input_grad(const Convolution& p, const T* g, const T* w, T* out) {
  const int64_t m = p.in_pixels(), k = p.kernel() * p.filters, n = p.channels;
  const Block<T, COLS, Index> b(m, n, p.groups);
  const int64_t column = b.group * p.filters, line = p.out_width * p.row();
  const auto rows = static_cast<Index>(m), depth = static_cast<Index>(k);
  const Spread<T, Index> spread{
      {p, g + column, p.out_height * line, line, p.row(), 1}, rows, depth};
  const TurnedWeights<T, Index> weights{w + column, p.row(), static_cast<Index>(n), depth,
                                        static_cast<Index>(p.filters)};
  gathered_product<COLS>(spread, weights, b.i, b.j, Index(0), depth, out + b.group * n,
                         p.groups * n);
}

// Part i of the sums over the pixels goes to the i-th array of the size of w in `out`; each takes
// `share` pixels.
template <int COLS, class Index, class T>
__device__ void conv2d_weight_grad(const Convolution& p, const Array<const T, 4>& x, const T* g,
                                   int64_t share, T* out) {
  const int64_t m = p.kernel() * p.channels, k = p.out_pixels(), n = p.filters;
  const Block<T, COLS, Index> b(m, n, p.groups);
  const int64_t begin = b.part * share, end = begin + share < k ? begin + share : k;
  const int64_t (&s)[4] = x.stride;
  const T* first = x.data + b.group * p.channels * s[3];
  const auto rows = static_cast<Index>(m), depth = static_cast<Index>(end);
  const Patches<T, Index, true> patches{{p, first, s[0], s[1], s[2], s[3]}, rows, depth};
  const Columns<T, Index> grads{g + b.group * n, p.row(), static_cast<Index>(n), depth};
  gathered_product<COLS>(patches, grads, b.i, b.j, static_cast<Index>(begin), depth,
                         out + b.part * m * p.row() + b.group * n, p.row());
}

}  // namespace needle
