// static_convolution.h: 2-d convolution and its two gradients, channels last, for shapes that are
// compile-time constants.
//
// Contract: `Shape` has the constants IMAGES, HEIGHT, WIDTH, CHANNELS, KERNEL_HEIGHT, KERNEL_WIDTH,
// FILTERS, OUT_HEIGHT, OUT_WIDTH, STRIDE_Y, STRIDE_X, TOP and LEFT (the zero padding; negative
// where pixels are cropped). An image of x consists of PLANES arrays of (HEIGHT, WIDTH, CHANNELS /
// PLANES), which are X_PLANE elements apart; images are X_IMAGE elements apart. One plane means
// channels last, CHANNELS planes mean channels first. w (KERNEL_HEIGHT, KERNEL_WIDTH, CHANNELS,
// FILTERS) is a part of an array of W_ELEMENTS; it begins at W_OFFSET and its rows are W_ROW apart,
// so that positions at the edges of a kernel may be left out. The gradient of w fills that whole
// array. g, y and dx are compact. Results are overwritten and alias no operand. `epilogue` is the
// one of static_gemm.h; it sees y and dx as matrices with a row for each pixel.
//
// Idea: for one pixel of the result, each kernel position lies either over the image or outside of
// it, and that is so in all images alike. So a register tile of C is one pixel of some images times
// some filters, and it sums only over the positions that lie over the image. Rows of these
// positions are consecutive both in the image and in w, so that the sum is one batch-reduce product
// (Georganas et al. 2020). Patches are never gathered. A tile of images is packed once and serves
// every pixel; in the packed tile, the values of one element in all images are adjacent. The
// gradient of x with strides (sy, sx) consists of sy·sx such convolutions of g, one for each
// remainder of the pixel coordinates modulo the strides, with the kernel positions of that
// remainder mirrored. The gradient of w is, for each kernel position, a product of x and g, summed
// over the pixels and images in which the position lies over the image.
//
// Bound: the FMA rate, for fewer multiply-adds than with zero-padded images. Measured in
// benchmarks/native/static_convolution.cpp.
#pragma once

#include <iterator>

#include "static_gemm.h"

namespace needle::NEEDLE_ISA {

namespace static_convolution_detail {

using namespace static_gemm_detail;

// One axis of a convolution. Output i is pixel `first + i * step` of the result. For this output,
// position 0 of the kernel lies on pixel `start + i * stride` of an image of `size` pixels.
struct Axis {
  int64_t outputs, first, step;
  int64_t kernel, start, stride, size;

  // The kernel positions that lie over the image for output i.
  Range taps(int64_t i) const {
    const int64_t at = start + i * stride;
    const int64_t begin = std::clamp<int64_t>(-at, 0, kernel);
    return {begin, std::clamp(size - at, begin, kernel)};
  }

  // The outputs for which the kernel position `tap` lies over the image.
  Range outputs_of(int64_t tap) const {
    const int64_t at = start + tap;
    const int64_t begin = std::min(outputs, at < 0 ? ceil_div(-at, stride) : 0);
    return {begin, at < size ? std::clamp(ceil_div(size - at, stride), begin, outputs) : begin};
  }
};

// A convolution as data. The code that uses it is compiled once for all shapes.
struct Problem {
  Axis y, x;
  int64_t images, channels, filters;
  int64_t planes, x_plane, x_image;
  int64_t w_row, w_offset, w_elements;

  constexpr int64_t depth() const { return channels / planes; }
  constexpr int64_t tap() const { return channels * filters; }
  constexpr int64_t out_image() const { return y.outputs * x.outputs * filters; }
  constexpr int64_t work() const { return images * out_image() * y.kernel * x.kernel * channels; }
};

template <class Shape>
constexpr Problem PROBLEM = {
    {Shape::OUT_HEIGHT, 0, 1, Shape::KERNEL_HEIGHT, -Shape::TOP, Shape::STRIDE_Y, Shape::HEIGHT},
    {Shape::OUT_WIDTH, 0, 1, Shape::KERNEL_WIDTH, -Shape::LEFT, Shape::STRIDE_X, Shape::WIDTH},
    Shape::IMAGES,
    Shape::CHANNELS,
    Shape::FILTERS,
    Shape::PLANES,
    Shape::X_PLANE,
    Shape::X_IMAGE,
    Shape::W_ROW,
    Shape::W_OFFSET,
    Shape::W_ELEMENTS};

// The number of threads that the work is worth, at most `most`.
inline int64_t useful_threads(int64_t work, int64_t most) {
  return std::min(threads_for(work, MIN_WORK_PER_THREAD), most);
}

// The number of kernel positions with a given remainder modulo the stride, and with a smaller one.
constexpr int64_t taps_with(const Axis& axis, int64_t remainder) {
  return remainder < axis.kernel ? ceil_div(axis.kernel - remainder, axis.stride) : 0;
}
constexpr int64_t taps_before(const Axis& axis, int64_t remainder) {
  int64_t count = 0;
  for (int64_t r = 0; r < remainder; ++r) count += taps_with(axis, r);
  return count;
}

// The axis of the gradient of x, for the pixels under the kernel positions with this remainder.
constexpr Axis backward(const Axis& axis, int64_t remainder) {
  int64_t first = (axis.start + remainder) % axis.stride;
  if (first < 0) first += axis.stride;
  const int64_t taps = taps_with(axis, remainder);
  const int64_t output = (first - axis.start - remainder) / axis.stride;
  return {std::max<int64_t>(ceil_div(axis.size - first, axis.stride), 0),
          first,
          axis.stride,
          taps,
          output - (taps - 1),
          1,
          axis.outputs};
}

// ---- Convolution of packed images ---------------------------------------------------------------

// A thread gets at least one tile of images. So tiles with few images, down to `least_rows`, are
// better than unequal shares.
template <int64_t m, int64_t n, int64_t c_row, int least_rows = 8>
struct Matrices {
  static constexpr int LEAST_ROWS = least_rows;
  static constexpr int64_t M = m, N = n, K = 1, A_ROW = 1, A_COL = m, B_ROW = n, B_COL = 1,
                           C_ROW = c_row;
};

// C is partitioned into tiles of rows and panels of columns. The micro-kernels read columns of A
// whose elements are adjacent in memory.
template <typename T>
struct Blocks : Plan<T, void (*)(const Tile<T>&)> {
  int64_t last_pitch;  // row stride of the last panel of packed weights
  Pack<T> pack_a[2];   // packs one plane of the images of a tile
  Pack<T> pack_b[2];   // packs the weights of a panel

  int64_t pitch(int64_t panel) const { return this->is_last(panel) ? last_pitch : this->cols; }
  int64_t packed_row() const { return (this->panels - 1) * this->cols + last_pitch; }
};

// The blocks for images of PLANES planes. The weights in memory have C's columns adjacent, unless
// they are TRANSPOSED.
template <typename T, class Shape, int64_t PLANES, bool TRANSPOSED>
constexpr Blocks<T> make_blocks() {
  constexpr int LANES = REGISTER_BYTES / sizeof(T), VECTORS = tile_vectors(Shape::M);
  constexpr int COLS = std::min<int64_t>(VECTORS * LANES, Shape::N);
  constexpr int HEIGHT = tile_rows(VECTORS), LEAST = std::min(HEIGHT, Shape::LEAST_ROWS);
  constexpr int64_t TILES = count_tiles(Shape::M, HEIGHT, LEAST);
  constexpr int LOW = Shape::M / TILES, HIGH = ceil_div(Shape::M, TILES);
  constexpr int LAST = (Shape::N - 1) % COLS + 1;
  Blocks<T> blocks{};
  set_grid<Shape>(blocks, TILES, COLS, 1);
  blocks.last_pitch = Columns<T, LAST>::PITCH;
  blocks.kernels[0][0] = &micro_kernel<T, LOW, COLS, true, true>;
  blocks.kernels[0][1] = &micro_kernel<T, LOW, LAST, true, true>;
  blocks.kernels[1][0] = &micro_kernel<T, HIGH, COLS, true, true>;
  blocks.kernels[1][1] = &micro_kernel<T, HIGH, LAST, true, true>;
  blocks.pack_a[0] = &pack_transposed<T, LOW, LOW * PLANES>;
  blocks.pack_a[1] = &pack_transposed<T, HIGH, HIGH * PLANES>;
  blocks.pack_b[0] = pack_for<T, COLS, Columns<T, COLS>::PITCH, !TRANSPOSED>();
  blocks.pack_b[1] = pack_for<T, LAST, Columns<T, LAST>::PITCH, !TRANSPOSED>();
  return blocks;
}

// A convolution of packed images. `weights` are packed panels with rows (y.kernel, x.kernel,
// channels).
template <typename T>
struct Pass {
  Axis y, x;
  int64_t width, channels, result_width;
  const T* weights;
};

// Computes the results of the images of a tile, which are packed as (HEIGHT, WIDTH, CHANNELS,
// images).
template <typename T>
void convolve(const Blocks<T>& blocks, const Pass<T>& pass, int64_t rows, const T* images, T* c) {
  Tile<T> tile{};
  tile.a_step = rows;
  tile.c_row = blocks.c_row;
  const int64_t kernel_row = pass.x.kernel * pass.channels;
  for (int64_t i = 0; i < pass.y.outputs; ++i) {
    const Range y = pass.y.taps(i);
    for (int64_t j = 0; j < pass.x.outputs; ++j) {
      const Range x = pass.x.taps(j);
      const int64_t top = pass.y.start + i * pass.y.stride + y.first;
      const int64_t left = pass.x.start + j * pass.x.stride + x.first;
      const int64_t first_row = y.first * kernel_row + x.first * pass.channels;
      T* const pixel = c + ((pass.y.first + i * pass.y.step) * pass.result_width + pass.x.first +
                            j * pass.x.step) *
                               blocks.n;
      tile.runs = y.last - y.first;
      tile.k = (x.last - x.first) * pass.channels;
      tile.a = images + (top * pass.width + left) * pass.channels * rows;
      tile.a_jump = (pass.width * pass.channels - tile.k) * rows;
      const T* panel_weights = pass.weights;
      for (int64_t panel = 0; panel < blocks.panels; ++panel) {
        tile.b_step = blocks.pitch(panel);
        tile.b = panel_weights + first_row * tile.b_step;
        tile.b_jump = (kernel_row - tile.k) * tile.b_step;
        tile.c = pixel + panel * blocks.cols;
        blocks.kernels[rows > blocks.low][blocks.is_last(panel)](tile);
        panel_weights += pass.y.kernel * kernel_row * tile.b_step;
      }
    }
  }
}

// The layout of x or g in memory: the strides between images and between planes.
struct Images {
  int64_t image, planes, plane, plane_size;
};

// Calls convolve for every tile of images and every pass.
template <typename T>
[[gnu::noinline]] void convolve_all(const Blocks<T>& blocks, const Pass<T>* passes, int64_t count,
                                    const Images& from, const T* x, T* c, int64_t work,
                                    const Epilogue& epilogue) {
  const int64_t parts = useful_threads(work, blocks.tiles);
  const int64_t pixels = blocks.c_row / blocks.n;
  parallel_for(parts, [&](int64_t part) {
    T* const packed = scratch<T>(PACKED_A, (blocks.low + 1) * from.planes * from.plane_size);
    const int64_t last = part_start(blocks.tiles, parts, part + 1);
    for (int64_t tile = part_start(blocks.tiles, parts, part); tile < last; ++tile) {
      const int64_t first = blocks.row(tile), end = blocks.row(tile + 1), rows = end - first;
      for (int64_t plane = 0; plane < from.planes; ++plane)
        blocks.pack_a[rows > blocks.low](x + first * from.image + plane * from.plane, from.image,
                                         from.plane_size, packed + plane * rows);
      for (int64_t pass = 0; pass < count; ++pass)
        convolve(blocks, passes[pass], rows, packed, c + first * blocks.c_row);
      epilogue.call(epilogue.context, 0, first * pixels, end * pixels, 0, blocks.n);
    }
  });
}

// ---- Weights ------------------------------------------------------------------------------------

// Packs `steps` rows of all panels. Each packed panel has `rows` rows.
template <typename T>
void pack_panels(const Blocks<T>& blocks, const T* from, int64_t from_panel, int64_t from_row,
                 int64_t steps, T* to, int64_t first_row, int64_t rows) {
  for (int64_t panel = 0; panel < blocks.panels; ++panel) {
    blocks.pack_b[blocks.is_last(panel)](from + panel * from_panel, from_row, steps,
                                         to + first_row * blocks.pitch(panel));
    to += rows * blocks.cols;
  }
}

// Packs weights as rows (KERNEL_HEIGHT, KERNEL_WIDTH, CHANNELS) with FILTERS columns.
template <typename T>
[[gnu::noinline]] const T* pack_weights(const Blocks<T>& blocks, const Problem& p, const T* w) {
  const int64_t row = p.x.kernel * p.channels, rows = p.y.kernel * row;
  T* const packed = scratch<T>(PACKED_B, rows * blocks.packed_row());
  for (int64_t y = 0; y < p.y.kernel; ++y)
    pack_panels(blocks, w + p.w_offset + y * p.w_row, blocks.cols, p.filters, row, packed, y * row,
                rows);
  return packed;
}

// Mirrored weights are packed separately for each remainder of the kernel positions: rows
// (positions from the last to the first, FILTERS) with CHANNELS columns. `remainder_offset` is the
// offset of those of remainder (ry, rx).
template <typename T>
int64_t remainder_offset(const Blocks<T>& blocks, const Problem& p, int64_t ry, int64_t rx) {
  const int64_t taps =
      taps_before(p.y, ry) * p.x.kernel + taps_with(p.y, ry) * taps_before(p.x, rx);
  return taps * p.filters * blocks.packed_row();
}

template <typename T>
[[gnu::noinline]] const T* pack_mirrored_weights(const Blocks<T>& blocks, const Problem& p,
                                                 const T* w) {
  T* const packed = scratch<T>(PACKED_B, p.y.kernel * p.x.kernel * p.filters * blocks.packed_row());
  for (int64_t y = 0; y < p.y.kernel; ++y) {
    for (int64_t x = 0; x < p.x.kernel; ++x) {
      const int64_t ry = y % p.y.stride, rx = x % p.x.stride;
      const int64_t height = taps_with(p.y, ry), width = taps_with(p.x, rx);
      const int64_t mirrored = (height - 1 - y / p.y.stride) * width + width - 1 - x / p.x.stride;
      pack_panels(blocks, w + p.w_offset + y * p.w_row + x * p.tap(), blocks.cols * p.filters,
                  p.filters, p.filters, packed + remainder_offset(blocks, p, ry, rx),
                  mirrored * p.filters, height * width * p.filters);
    }
  }
  return packed;
}

// ---- The gradient of w --------------------------------------------------------------------------

// The products that accumulate into dw. A row of products is `taps` adjacent kernel positions, with
// the channels of one plane. If there are few channels, a row of products takes all positions of a
// kernel row together; for this, the rows of x are zero-padded on the left and right.
struct WeightGradient : Problem {
  bool whole_rows;
  int64_t taps, width, row, plane, image;  // the strides of x, or of x padded

  constexpr explicit WeightGradient(const Problem& p)
      : Problem(p),
        whole_rows(p.depth() < 8),
        taps(whole_rows ? x.kernel : 1),
        width(whole_rows ? (x.outputs - 1) * x.stride + x.kernel : x.size),
        row(width * depth()),
        plane(whole_rows ? y.size * row : x_plane),
        image(whole_rows ? planes * plane : x_image) {}

  constexpr int64_t row_count() const { return y.kernel * (x.kernel / taps) * planes; }
  Range outputs_of(int64_t tap) const {
    return whole_rows ? Range{0, x.outputs} : x.outputs_of(tap);
  }
};

// Returns some images with zero-padded rows, as WeightGradient describes them: (images, PLANES,
// HEIGHT, width, depth).
template <typename T>
const T* pad_rows(const WeightGradient& p, const T* x, int64_t images) {
  T* const padded = scratch<T>(PACKED_A, images * p.image);
  const int64_t depth = p.depth(), first = std::clamp<int64_t>(-p.x.start, 0, p.width);
  const int64_t last = std::clamp(p.x.size - p.x.start, first, p.width);
  T* to = padded;
  for (int64_t i = 0; i < images * p.planes; ++i) {
    const T* from = x + i / p.planes * p.x_image + i % p.planes * p.x_plane;
    for (int64_t y = 0; y < p.y.size; ++y, from += p.x.size * depth, to += p.row) {
      std::fill_n(to, first * depth, T(0));
      std::copy_n(from + (p.x.start + first) * depth, (last - first) * depth, to + first * depth);
      std::fill_n(to + last * depth, (p.width - last) * depth, T(0));
    }
  }
  return padded;
}

// Adds the contribution of some images to one tile of one row of products. `sum` is compact.
template <typename T>
void add_weight_gradient(const Blocks<T>& blocks, const WeightGradient& p, const T* x, const T* g,
                         T* sum, int64_t images, int64_t number) {
  const int64_t across = p.x.kernel / p.taps, step = p.x.stride * p.depth();
  const int64_t panel = number % blocks.panels, place = number / blocks.panels % blocks.tiles;
  const int64_t row = number / (blocks.panels * blocks.tiles), plane = row % p.planes;
  const int64_t kx = row / p.planes % across, ky = row / (p.planes * across);
  const int64_t first = blocks.row(place), rows = blocks.row(place + 1) - first;
  const Range along_y = p.y.outputs_of(ky), along_x = p.outputs_of(kx);
  const int64_t count = along_x.last - along_x.first;
  if (count == 0) return;

  Tile<T> tile{};
  tile.c = sum + (ky * p.x.kernel + kx) * p.tap() + (first * p.planes + plane) * p.filters +
           panel * blocks.cols;
  tile.c_row = blocks.c_row;
  tile.accumulate = true;
  if (p.x.outputs == 1) {  // a single run over all images
    tile.k = images, tile.a_step = p.image, tile.b_step = p.out_image();
    tile.runs = 1;
  } else {
    tile.k = count, tile.a_step = step, tile.b_step = p.filters;
    tile.runs = images;
    tile.a_jump = p.image - count * step;
    tile.b_jump = p.out_image() - count * p.filters;
  }
  if (blocks.is_last(panel)) {
    const int64_t surplus = blocks.last_pitch - (blocks.n - panel * blocks.cols);
    tile.careful_steps = std::min(ceil_div(surplus, p.filters), tile.k);
  }
  const int64_t left = (p.whole_rows ? 0 : p.x.start + kx) + along_x.first * p.x.stride;
  for (int64_t i = along_y.first; i < along_y.last; ++i) {
    const int64_t y = p.y.start + i * p.y.stride + ky;
    tile.a = x + plane * p.plane + y * p.row + left * p.depth() + first;
    tile.b = g + (i * p.x.outputs + along_x.first) * p.filters + panel * blocks.cols;
    blocks.kernels[rows > blocks.low][blocks.is_last(panel)](tile);
  }
}

// Computes the elements [begin, end) of dw: the sums of all threads, and zero at kernel positions
// that are left out.
template <typename T>
void join_weight_gradients(const Problem& p, const T* sums, int64_t count, T* dw, int64_t begin,
                           int64_t end) {
  const int64_t row = p.x.kernel * p.tap();
  std::fill(dw + begin, dw + end, T(0));
  for (int64_t y = 0; y < p.y.kernel; ++y) {
    const int64_t place = p.w_offset + y * p.w_row;
    const int64_t first = std::max(begin, place), last = std::min(end, place + row);
    for (int64_t sum = 0; sum < count; ++sum) {
      const T* from = sums + (sum * p.y.kernel + y) * row - place;
      for (int64_t i = first; i < last; ++i) dw[i] += from[i];
    }
  }
}

template <typename T>
[[gnu::noinline]] void weight_gradient(const Blocks<T>& blocks, const WeightGradient& p, const T* x,
                                       const T* g, T* dw) {
  const int64_t count = p.row_count() * blocks.tiles * blocks.panels;
  const int64_t size = p.y.kernel * p.x.kernel * p.tap();
  // The number of images whose x and g stay in L2.
  const int64_t some = std::max<int64_t>((256 << 10) / ((p.image + p.out_image()) * sizeof(T)), 1);
  const int64_t parts = useful_threads(p.work(), p.images);
  T* const sums = scratch<T>(PARTIAL_SUMS, parts * size);
  // The images are split among threads, as elsewhere, so that a core finds the data that it has
  // written in its own caches.
  parallel_for(parts, [&](int64_t part) {
    T* const sum = sums + part * size;
    std::fill_n(sum, size, T(0));
    const int64_t last = part_start(p.images, parts, part + 1);
    for (int64_t i = part_start(p.images, parts, part); i < last; i += some) {
      const int64_t images = std::min(some, last - i);
      const T* from = x + i * p.x_image;
      if (p.whole_rows) from = pad_rows(p, from, images);
      for (int64_t number = 0; number < count; ++number)
        add_weight_gradient(blocks, p, from, g + i * p.out_image(), sum, images, number);
    }
  });
  parallel_for(parts, [&](int64_t part) {
    join_weight_gradients(p, sums, parts, dw, part_start(p.w_elements, parts, part),
                          part_start(p.w_elements, parts, part + 1));
  });
}

}  // namespace static_convolution_detail

template <class Shape, typename T, typename Epilogue = decltype(no_epilogue)>
void static_convolution(const T* x, const T* w, T* y, const Epilogue& epilogue = no_epilogue) {
  using namespace static_convolution_detail;
  constexpr const Problem& P = PROBLEM<Shape>;
  using C = Matrices<P.images, P.filters, P.out_image()>;
  static constexpr Blocks<T> BLOCKS = make_blocks<T, C, P.planes, false>();
  const Pass<T> pass{P.y, P.x, P.x.size, P.channels, P.x.outputs, pack_weights(BLOCKS, P, w)};
  const Images images{P.x_image, P.planes, P.x_plane, P.y.size * P.x.size * P.depth()};
  convolve_all(BLOCKS, &pass, 1, images, x, y, P.work(), epilogue_of_one(epilogue));
}

template <class Shape, typename T, typename Epilogue = decltype(no_epilogue)>
void static_convolution_input_gradient(const T* g, const T* w, T* dx,
                                       const Epilogue& epilogue = no_epilogue) {
  using namespace static_convolution_detail;
  constexpr const Problem& P = PROBLEM<Shape>;
  using C = Matrices<P.images, P.channels, P.y.size * P.x.size * P.channels>;
  static constexpr Blocks<T> BLOCKS = make_blocks<T, C, 1, true>();
  const T* weights = pack_mirrored_weights(BLOCKS, P, w);
  Pass<T> passes[P.y.stride * P.x.stride];
  for (int64_t i = 0; i < P.y.stride * P.x.stride; ++i) {
    const int64_t ry = i / P.x.stride, rx = i % P.x.stride;
    passes[i] = {backward(P.y, ry), backward(P.x, rx),
                 P.x.outputs,       P.filters,
                 P.x.size,          weights + remainder_offset(BLOCKS, P, ry, rx)};
  }
  const Images images{P.out_image(), 1, 0, P.out_image()};
  convolve_all(BLOCKS, passes, std::size(passes), images, g, dx, P.work(),
               epilogue_of_one(epilogue));
}

template <class Shape, typename T>
void static_convolution_weight_gradient(const T* x, const T* g, T* dw) {
  using namespace static_convolution_detail;
  static constexpr WeightGradient P{PROBLEM<Shape>};
  // Threads do not split the tiles here, so the tiles are as high as the registers allow.
  using C = Matrices<P.taps * P.depth(), P.filters, P.planes * P.filters, REGISTERS>;
  static constexpr Blocks<T> BLOCKS = make_blocks<T, C, 1, false>();
  weight_gradient(BLOCKS, P, x, g, dw);
}

}  // namespace needle::NEEDLE_ISA
