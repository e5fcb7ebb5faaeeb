// convolution.cuh: 2-d convolution and its two gradients, channels last, as implicit GEMMs: matrix
// products of patches that are gathered tile by tile and never stored as a whole (Chetlur et al.,
// "cuDNN", 2014).
//
// Contract: the same as that of csrc/cpu/kernels/convolution.h. x (N, H, W, C) may have any
// strides; w (KH, KW, C / groups, O), g (N, OH, OW, O) and every result are contiguous. Results are
// overwritten. Positions outside the image count as zero.
//
// Idea: the kernels compute, for each group of channels,
//   conv2d:             y (pixels, filters)    = patches of x (pixels, taps) · w (taps, filters)
//   conv2d_input_grad:  dx (pixels, channels)  = patches of g (pixels, taps) · wᵀ (taps, channels)
//   conv2d_weight_grad: dw (taps, filters)     = patchesᵀ of x (taps, pixels) · g (pixels, filters)
// where a tap is a position of the kernel together with a channel (in the gradient of x: with a
// filter).
//
// The template parameter `Product` selects how a thread block multiplies (block_product.cuh): with
// FMA instructions or with tensor cores. Groups that are too narrow for a tile, as in a depthwise
// convolution, use one thread per result. The address of an element of a panel is computed from its
// row and depth; a thread keeps the coordinates of its rows, which stay the same for all depths.
// Where the channels fill whole packs of 16 bytes, one address serves a pack. Panels are double
// buffered: the next ones are loaded while the current ones are multiplied. The gradient of x
// gathers all contributions to a pixel. The gradient of w sums over all pixels, or is split over
// fixed parts of them (split-K) whose partial sums are added afterwards. Neither needs atomics, so
// that the order of additions is fixed.
//
// Bound: arithmetic; with few channels or filters per group, the loads of mostly empty panels.
#pragma once

#include "block_product.cuh"

namespace needle {

struct Convolution {
  int64_t images, height, width;
  int64_t kernel_height, kernel_width, channels, filters, groups;  // channels, filters per group
  int64_t out_height, out_width;
  int64_t stride_y, stride_x, dilation_y, dilation_x, top, left;

  __device__ int64_t row() const { return groups * filters; }  // the row length of y, g and w
  __device__ int64_t kernel() const { return kernel_height * kernel_width; }
  __device__ int64_t out_pixels() const { return images * out_height * out_width; }
};

// Division of numbers below 2^31 by an invariant divisor, in three instructions (Granlund and
// Montgomery, "Division by invariant integers using multiplication", 1994, figure 4.1).
template <class Index>
struct Divisor {
  Index by;
  uint32_t magic = 0;
  int shift = 0;

  __device__ explicit Divisor(Index n) : by(n < 1 ? 1 : n) {
    if constexpr (sizeof(Index) == 4) {
      shift = WARP - __clz(by - 1);
      magic = static_cast<uint32_t>((((uint64_t(1) << shift) - by) << 32) / by + 1);
    }
  }
  __device__ friend Index operator/(Index n, const Divisor& d) {
    if constexpr (sizeof(Index) == 4)
      return static_cast<Index>((__umulhi(n, d.magic) + n) >> d.shift);
    else
      return n / d.by;
  }
};

// ---- operands: the address of an element at a given row and depth -----------------------------

// Offsets and counts have the type Index, which has 32 bits where these are enough. PACK neighbours
// along the depth (along the rows if not ALONG_DEPTH) are adjacent in memory, and either all of
// them exist or none does.

// A position on an image, and an offset for the other axes. The Spot of a pixel and the Spot of a
// tap are added to get the address of an element.
template <class Index>
struct Spot {
  static constexpr int NOWHERE = 1 << 29;  // outside any image, even after adding another Spot
  Index offset;
  int y, x;
};

// Regularly spaced points on an image: their number, first position and step along each axis.
struct Grid {
  int height, width;
  int first_y, first_x, step_y, step_x;

  __device__ Grid(int64_t height, int64_t width, int64_t first_y, int64_t first_x, int64_t step_y,
                  int64_t step_x)
      : height(static_cast<int>(height)),
        width(static_cast<int>(width)),
        first_y(static_cast<int>(first_y)),
        first_x(static_cast<int>(first_x)),
        step_y(static_cast<int>(step_y)),
        step_x(static_cast<int>(step_x)) {}

  template <class Index>
  __device__ Spot<Index> at(Index offset, Index y, Index x) const {
    return {offset, first_y + static_cast<int>(y) * step_y, first_x + static_cast<int>(x) * step_x};
  }
};

// The matrix of patches (im2col): for each pixel, the elements of the image under the taps of the
// kernel. Rows are pixels and the depth runs over taps; the other way round if TURNED.
template <class T, class Index, bool TURNED, int PACK_>
struct Patches {
  using Number = T;
  static constexpr bool ALONG_DEPTH = !TURNED;
  static constexpr int PACK = PACK_;

  Array<const T, 4> image;
  int64_t height, width;  // size of the image
  Grid pixels, taps;
  Index pixel_count, tap_count, channels;
  Divisor<Index> inner, outer;  // split a depth into its coordinates

  __device__ Patches(const Array<const T, 4>& image, int64_t height, int64_t width,
                     const Grid& pixels, int64_t pixel_count, const Grid& taps, int64_t channels)
      : image(image),
        height(height),
        width(width),
        pixels(pixels),
        taps(taps),
        pixel_count(static_cast<Index>(pixel_count)),
        tap_count(static_cast<Index>(channels) * taps.height * taps.width),
        channels(static_cast<Index>(channels)),
        inner(static_cast<Index>(TURNED ? pixels.width : channels)),
        outer(static_cast<Index>(TURNED ? pixels.height : taps.width)) {}

  template <class Size>
  __device__ Spot<Index> pixel(Index i, const Size& by_width, const Size& by_height) const {
    if (i >= pixel_count) return {0, Spot<Index>::NOWHERE, 0};
    const Index row = i / by_width, n = row / by_height;
    return pixels.at<Index>(n * static_cast<Index>(image.stride[0]),
                            row - n * static_cast<Index>(pixels.height),
                            i - row * static_cast<Index>(pixels.width));
  }
  template <class Size>
  __device__ Spot<Index> tap(Index i, const Size& by_channels, const Size& by_width) const {
    if (i >= tap_count) return {0, Spot<Index>::NOWHERE, 0};
    const Index place = i / by_channels, y = place / by_width;
    return taps.at<Index>((i - place * channels) * static_cast<Index>(image.stride[3]), y,
                          place - y * static_cast<Index>(taps.width));
  }
  __device__ Spot<Index> row(Index i) const {
    if constexpr (TURNED)
      return tap(i, channels, static_cast<Index>(taps.width));
    else
      return pixel(i, static_cast<Index>(pixels.width), static_cast<Index>(pixels.height));
  }
  __device__ Spot<Index> down(Index k) const {
    if constexpr (TURNED)
      return pixel(k, inner, outer);
    else
      return tap(k, inner, outer);
  }
  __device__ const T* find(const Spot<Index>& a, const Spot<Index>& b) const {
    const int y = a.y + b.y, x = a.x + b.x;
    if (static_cast<unsigned>(y) >= static_cast<unsigned>(height) ||
        static_cast<unsigned>(x) >= static_cast<unsigned>(width)) {
      return nullptr;
    }
    return image.data + (a.offset + b.offset + y * static_cast<Index>(image.stride[1]) +
                         x * static_cast<Index>(image.stride[2]));
  }
  __device__ const T* somewhere() const { return image.data; }
};

// The columns of w or g that belong to a group. The element at row j and depth k is
// data[k·stride + j].
template <class T, class Index, int PACK_>
struct Columns {
  using Number = T;
  static constexpr bool ALONG_DEPTH = false;
  static constexpr int PACK = PACK_;
  const T* data;
  int64_t stride, rows, depth;

  __device__ Index row(Index j) const { return j < static_cast<Index>(rows) ? j : -1; }
  __device__ Index down(Index k) const {
    return k < static_cast<Index>(depth) ? k * static_cast<Index>(stride) : -1;
  }
  __device__ const T* find(Index j, Index k) const {
    return j < 0 || k < 0 ? nullptr : data + (j + k);
  }
  __device__ const T* somewhere() const { return data; }
};

// ---- the product ------------------------------------------------------------------------------

// The packs of an operand's panels that a thread loads: DEPTHS × ROWS of them per panel.
// Neighbouring threads load adjacent packs, so that accesses are coalesced. At most 8 threads lie
// along the depth, or 32 along the rows, so that no thread keeps the coordinates of many rows.
template <class Panel, int DEPTH, class Index, class Operand>
struct Gathered {
  using T = typename Operand::Number;
  static constexpr int W = Operand::PACK;
  static constexpr bool DEEP = Operand::ALONG_DEPTH;
  static constexpr bool ASYNC = Panel::IN_PACKS && W * sizeof(T) == ACCESS;
  static constexpr int ROW_PACK = DEEP ? 1 : W, DEPTH_PACK = DEEP ? W : 1;
  static constexpr int ALONG = (DEEP ? DEPTH : Panel::SIZE) / W, MOST = DEEP ? 8 : WARP;
  static constexpr int BESIDE = ALONG < MOST ? ALONG : MOST, ACROSS = BLOCK / BESIDE;
  static constexpr int ROW_STEP = (DEEP ? ACROSS : BESIDE) * ROW_PACK;
  static constexpr int DEPTH_STEP = (DEEP ? BESIDE : ACROSS) * DEPTH_PACK;
  static constexpr int ROWS = (Panel::SIZE + ROW_STEP - 1) / ROW_STEP;
  static constexpr int DEPTHS = (DEPTH + DEPTH_STEP - 1) / DEPTH_STEP;

  const Operand& operand;
  int i, k;  // row and depth in the panel of the first element that the thread loads
  decltype(static_cast<const Operand*>(nullptr)->row(Index(0))) rows[ROWS];
  Pack<T, W> held[ASYNC ? 1 : DEPTHS][ASYNC ? 1 : ROWS];

  __device__ Gathered(const Operand& operand, Index first) : operand(operand) {
    const int beside = threadIdx.x % BESIDE, across = threadIdx.x / BESIDE;
    i = (DEEP ? across : beside) * ROW_PACK, k = (DEEP ? beside : across) * DEPTH_PACK;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) rows[r] = operand.row(first + i + r * ROW_STEP);
  }

  __device__ bool takes_part() const { return i < Panel::SIZE && k < DEPTH; }

  // Loads the thread's packs of the panel at `depth`: by asynchronous copies into `panel` if ASYNC,
  // else into registers, from which `settle` stores them.
  __device__ void fetch(Index depth, Panel& panel) {
    if (!takes_part()) return;
#pragma unroll
    for (int d = 0; d < DEPTHS; ++d) {
      const auto down = operand.down(depth + k + d * DEPTH_STEP);
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        const T* from = operand.find(rows[r], down);
        if constexpr (ASYNC)
          copy_async(panel.at(i + r * ROW_STEP, k + d * DEPTH_STEP),
                     from == nullptr ? operand.somewhere() : from, from != nullptr);
        else
          held[d][r] = from == nullptr ? Pack<T, W>{} : *reinterpret_cast<const Pack<T, W>*>(from);
      }
    }
  }

  // Stores the packs from registers to the panel in shared memory. Does nothing if ASYNC.
  __device__ void settle(Panel& panel) const {
    if (ASYNC || !takes_part()) return;
#pragma unroll
    for (int d = 0; d < DEPTHS; ++d) {
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
#pragma unroll
        for (int j = 0; j < W; ++j) {
          const int row = i + r * ROW_STEP + (DEEP ? 0 : j);
          *panel.at(row, k + d * DEPTH_STEP + (DEEP ? j : 0)) = held[d][r].item[j];
        }
      }
    }
  }
};

// Writes ADJACENT sums to the columns from j on of a row of results, which starts at `row` and has
// n columns. Columns beyond n are skipped.
template <class Product, class Index, class T>
__device__ void write_sums(T* row, Index j, int64_t n, const typename Product::Sum* sums) {
  constexpr int N = Product::ADJACENT;
  T* const to = row + j;
  if (N > 1 && j + N <= n && reinterpret_cast<uint64_t>(to) % (N * sizeof(T)) == 0) {
    Pack<T, N> pack;
#pragma unroll
    for (int s = 0; s < N; ++s) pack.item[s] = narrow<T>(sums[s]);
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
  } else {
#pragma unroll
    for (int s = 0; s < N; ++s) {
      if (j + s < n) to[s] = narrow<T>(sums[s]);
    }
  }
}

// Computes a tile of the m × n product a · b over the depths [begin, end). The tile starts at row
// i0 and column j0. row_of(i) is the address of row i of the results.
template <class Product, class Index, class A, class B, class RowOf>
__device__ void gathered_product(const A& a, const B& b, Index i0, Index j0, Index begin, Index end,
                                 int64_t m, int64_t n, RowOf row_of) {
  using Left = typename Product::template Panel<Product::ROWS, A::ALONG_DEPTH>;
  using Right = typename Product::template Panel<Product::COLS, B::ALONG_DEPTH>;
  __shared__ Left left[2];
  __shared__ Right right[2];
  Gathered<Left, Product::DEPTH, Index, A> a_panels(a, i0);
  Gathered<Right, Product::DEPTH, Index, B> b_panels(b, j0);
  Product product;
  if (begin < end) a_panels.fetch(begin, left[0]), b_panels.fetch(begin, right[0]);
  int place = 0;
  for (Index k = begin; k < end; place ^= 1) {
    a_panels.settle(left[place]), b_panels.settle(right[place]);
    wait_for_copies();
    __syncthreads();  // these panels are complete, and no thread reads the other two any more
    k += Product::DEPTH;
    if (k < end) a_panels.fetch(k, left[place ^ 1]), b_panels.fetch(k, right[place ^ 1]);
    product.multiply(left[place], right[place]);
  }
  product.each([&](int row, int col, const typename Product::Sum* sums) {
    const Index i = i0 + row;
    if (i < m) write_sums<Product>(row_of(i), j0 + col, n, sums);
  });
}

// Takes the place of a Product where each thread computes one result by itself.
template <class T>
struct OneByOne {
  using Sum = sum_of<T>;
  static constexpr int ROWS = 1, COLS = 1, ADJACENT = 1;
};

template <class Sum, class Index, class A, class B>
__device__ Sum dot(const A& a, const B& b, Index i, Index j, Index begin, Index end) {
  const auto row = a.row(i);
  const auto col = b.row(j);
  Sum sum = 0;
  for (Index k = begin; k < end; ++k) {
    const auto *x = a.find(row, a.down(k)), *y = b.find(col, b.down(k));
    if (x != nullptr && y != nullptr) sum += widen(*x) * widen(*y);
  }
  return sum;
}

template <class Product, class Index, class A, class B, class RowOf>
__device__ void product(const A& a, const B& b, Index i, Index j, Index begin, Index end, int64_t m,
                        int64_t n, RowOf row_of) {
  if constexpr (Product::ROWS > 1) {
    gathered_product<Product>(a, b, i, j, begin, end, m, n, row_of);
  } else if (i < m) {
    const auto sum = dot<typename Product::Sum>(a, b, i, j, begin, end);
    write_sums<Product>(row_of(i), j, n, &sum);
  }
}

// The tile, the group and the part of the work that a thread block computes. With OneByOne these
// select the one result of a thread: neighbouring threads have neighbouring columns, counted over
// all groups, and threads without a result get i >= m.
template <class Product, class Index>
struct Block {
  Index i, j;
  int64_t group, part;

  __device__ Block(int64_t m, int64_t n, int64_t groups, int64_t parts) {
    if constexpr (Product::ROWS == 1) {
      const Index at = static_cast<Index>(blockIdx.x) * BLOCK + threadIdx.x;
      const Index columns = static_cast<Index>(groups * n), rest = at / columns;
      const Index column = at - rest * columns;
      group = column / static_cast<Index>(n), j = column % static_cast<Index>(n);
      part = rest % static_cast<Index>(parts), i = rest / static_cast<Index>(parts);
    } else {
      const int64_t down = (m + Product::ROWS - 1) / Product::ROWS;
      const int64_t across = (n + Product::COLS - 1) / Product::COLS;
      const int64_t b = blockIdx.x, rest = b / across / down;
      i = static_cast<Index>(b / across % down * Product::ROWS);
      j = static_cast<Index>(b % across * Product::COLS);
      group = rest % groups, part = rest / groups;
    }
  }
};

// The channels of an image from `first` on.
template <class T>
__device__ Array<const T, 4> channels_from(const Array<const T, 4>& x, int64_t first) {
  return {x.data + first * x.stride[3], {x.stride[0], x.stride[1], x.stride[2], x.stride[3]}};
}

// The patches of x that the kernel covers at the first `end` output pixels, for the channels of a
// group.
template <bool TURNED, int PACK, class Index, class T>
__device__ Patches<T, Index, TURNED, PACK> patches_of(const Convolution& p,
                                                      const Array<const T, 4>& x, int64_t group,
                                                      int64_t end) {
  return {channels_from(x, group * p.channels),
          p.height,
          p.width,
          {p.out_height, p.out_width, -p.top, -p.left, p.stride_y, p.stride_x},
          end,
          {p.kernel_height, p.kernel_width, 0, 0, p.dilation_y, p.dilation_x},
          p.channels};
}

// PACK_X and PACK_W are the numbers of adjacent elements of x and of w that are loaded together.
template <class Product, int PACK_X, int PACK_W, class Index, class T>
__device__ void conv2d(const Convolution& p, const Array<const T, 4>& x, const T* w, T* out) {
  const int64_t m = p.out_pixels(), k = p.kernel() * p.channels, n = p.filters;
  const Block<Product, Index> at(m, n, p.groups, 1);
  const auto patches = patches_of<false, PACK_X, Index>(p, x, at.group, m);
  const Columns<T, Index, PACK_W> weights{w + at.group * n, p.row(), n, k};
  T* const to = out + at.group * n;
  product<Product>(patches, weights, at.i, at.j, Index(0), static_cast<Index>(k), m, n,
                   [&](Index i) { return to + i * p.row(); });
}

// Split-K over the pixels: each part sums over `share` pixels. Part i writes its sums to the i-th
// array of `out`, which has the size of w.
template <class Product, int PACK_X, int PACK_G, class Index, class T, class Out>
__device__ void conv2d_weight_grad(const Convolution& p, const Array<const T, 4>& x, const T* g,
                                   int64_t share, Out* out) {
  const int64_t m = p.kernel() * p.channels, k = p.out_pixels(), n = p.filters;
  const Block<Product, Index> at(m, n, p.groups, k > share ? (k + share - 1) / share : 1);
  const int64_t begin = at.part * share, end = begin + share < k ? begin + share : k;
  const auto patches = patches_of<true, PACK_X, Index>(p, x, at.group, end);
  const Columns<T, Index, PACK_G> grads{g + at.group * n, p.row(), n, end};
  Out* const to = out + at.part * m * p.row() + at.group * n;
  product<Product>(patches, grads, at.i, at.j, static_cast<Index>(begin), static_cast<Index>(end),
                   m, n, [&](Index i) { return to + i * p.row(); });
}

// ---- the gradient of the image ----------------------------------------------------------------

// With a stride s, pixel y of the image receives gradient only through the taps k for which y + top
// - k·dilation is a multiple of s. All pixels of one residue class modulo s have the same taps, and
// for them the gradient is a convolution of stride 1. A Residue describes one class along one axis.
struct Residue {
  int first, count;         // the pixels of the class: first, first + s, …
  int tap, tap_step, taps;  // the taps of the class: tap, tap + tap_step, …
  int out_first, out_step;  // output position of the first pixel's first tap; step to the next tap

  __device__ Residue(int first, int size, int kernel, int stride, int dilation, int before)
      : first(first), count(first < size ? (size - first + stride - 1) / stride : 0), tap(0) {
    tap_step = 1;  // the smallest step for which tap_step·dilation is a multiple of s
    while (tap_step * dilation % stride != 0) ++tap_step;
    while (tap < tap_step && (first + before - tap * dilation) % stride != 0) ++tap;
    taps = tap < tap_step && tap < kernel ? (kernel - tap + tap_step - 1) / tap_step : 0;
    out_first = taps > 0 ? (first + before - tap * dilation) / stride : 0;
    out_step = -(tap_step * dilation / stride);
  }
};

// Each part of the work is one residue class of pixels, see Residue.
template <class Product, int PACK_G, int PACK_W, class Index, class T>
__device__ void conv2d_input_grad(const Convolution& p, const T* g, const T* w, T* out) {
  const int64_t most_y = (p.height + p.stride_y - 1) / p.stride_y;
  const int64_t most_x = (p.width + p.stride_x - 1) / p.stride_x, n = p.channels;
  const Block<Product, Index> at(p.images * most_y * most_x, n, p.groups, p.stride_y * p.stride_x);
  const Residue y(at.part / p.stride_x, p.height, p.kernel_height, p.stride_y, p.dilation_y, p.top);
  const Residue x(at.part % p.stride_x, p.width, p.kernel_width, p.stride_x, p.dilation_x, p.left);
  const int64_t m = p.images * y.count * x.count, k = p.filters * y.taps * x.taps;
  if (at.i >= m) return;
  const int64_t column = at.group * p.filters, line = p.out_width * p.row();
  const Patches<T, Index, false, PACK_G> patches{
      {g + column, {p.out_height * line, line, p.row(), 1}},
      p.out_height,
      p.out_width,
      {y.count, x.count, y.out_first, x.out_first, 1, 1},
      m,
      {y.taps, x.taps, 0, 0, y.out_step, x.out_step},
      p.filters};
  // wᵀ in terms of Patches: w is an image of kernel_height × kernel_width, the rows of the matrix
  // are the channels, and all of them have the same taps.
  const int64_t position = n * p.row();
  const Patches<T, Index, false, PACK_W> weights{
      {w + column, {p.row(), p.kernel_width * position, position, 1}},
      p.kernel_height,
      p.kernel_width,
      {1, 1, y.tap, x.tap, 0, 0},
      n,
      {y.taps, x.taps, 0, 0, y.tap_step, x.tap_step},
      p.filters};
  T* const to = out + at.group * n;
  const auto pixel = [&](Index i) -> int64_t {
    if (p.stride_y == 1 && p.stride_x == 1) return i;
    const Index row = i / static_cast<Index>(x.count);
    const Index image = row / static_cast<Index>(y.count);
    const int64_t at_y = y.first + (row - image * y.count) * p.stride_y;
    return (image * p.height + at_y) * p.width + x.first + (i - row * x.count) * p.stride_x;
  };
  product<Product>(patches, weights, at.i, at.j, Index(0), static_cast<Index>(k), m, n,
                   [&](Index i) { return to + pixel(i) * p.groups * n; });
}

}  // namespace needle
