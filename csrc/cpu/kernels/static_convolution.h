// static_convolution.h: 2-d convolution and its two gradients for shapes that are known when the
// code is compiled, channels last.
//
// Contract: `Shape` has the constants IMAGES, HEIGHT, WIDTH, CHANNELS, KERNEL_HEIGHT, KERNEL_WIDTH,
// FILTERS, OUT_HEIGHT, OUT_WIDTH, STRIDE_Y, STRIDE_X, TOP and LEFT (the padding with zeros,
// negative where pixels are left out). An image of x is PLANES matrices of (HEIGHT, WIDTH, CHANNELS
// / PLANES), X_PLANE apart, and X_IMAGE lie between images: one plane is channels last, CHANNELS
// planes are channels first. w (KERNEL_HEIGHT, KERNEL_WIDTH, CHANNELS, FILTERS) is a part of an
// array of W_ELEMENTS, from W_OFFSET on and with rows W_ROW apart, so that positions at the edges
// of a kernel may be left out; the gradient of w fills that array. g, y and dx are compact. Results
// are overwritten and alias nothing. `epilogue` is as that of static_gemm.h, y and dx being
// matrices with a row for each pixel.
//
// Idea: for one pixel of the result, every kernel position lies over the image or beside it in all
// images at once. So a tile of C is one pixel in some images times some filters, and it sums only
// over the positions that matter: rows of pixels that are consecutive in the image and in w alike,
// one batch-reduce product (Georganas et al. 2020). Patches are never gathered; a tile of images is
// packed once, by element, and serves every pixel. The gradient of x with strides (sy, sx) is
// sy·sx such convolutions of g, one for the pixels of each remainder, with the kernel positions of
// that remainder mirrored. The gradient of w is a product of x and g at each position, summed over
// the pixels and images in which it lies over the image.
//
// Bound: the FMA rate, of fewer multiply-adds than with zeros around the images. Measured in
// benchmarks/native/static_convolution.cpp.
#pragma once

#include <iterator>

#include "static_gemm.h"

namespace needle::NEEDLE_ISA {

namespace static_convolution_detail {

using namespace static_gemm_detail;

// One axis of a convolution. Output i is pixel `first + i * step` of the result; position 0 of the
// kernel then lies on pixel `start + i * stride` of an image of `size`.
struct Axis {
  int64_t outputs, first, step;
  int64_t kernel, start, stride, size;

  // The kernel positions that lie over the image.
  Range taps(int64_t i) const {
    const int64_t at = start + i * stride;
    const int64_t begin = std::clamp<int64_t>(-at, 0, kernel);
    return {begin, std::clamp(size - at, begin, kernel)};
  }

  // The outputs for which a kernel position does.
  Range outputs_of(int64_t tap) const {
    const int64_t at = start + tap;
    const int64_t begin = std::min(outputs, at < 0 ? ceil_div(-at, stride) : 0);
    return {begin, at < size ? std::clamp(ceil_div(size - at, stride), begin, outputs) : begin};
  }
};

template <class Shape>
constexpr Axis AXIS_Y = {
    Shape::OUT_HEIGHT, 0, 1, Shape::KERNEL_HEIGHT, -Shape::TOP, Shape::STRIDE_Y, Shape::HEIGHT};
template <class Shape>
constexpr Axis AXIS_X = {Shape::OUT_WIDTH, 0,           1, Shape::KERNEL_WIDTH, -Shape::LEFT,
                         Shape::STRIDE_X,  Shape::WIDTH};

// The kernel positions with a remainder, and those with a smaller one.
constexpr int64_t taps_with(const Axis& axis, int64_t remainder) {
  return remainder < axis.kernel ? ceil_div(axis.kernel - remainder, axis.stride) : 0;
}
constexpr int64_t taps_before(const Axis& axis, int64_t remainder) {
  int64_t count = 0;
  for (int64_t r = 0; r < remainder; ++r) count += taps_with(axis, r);
  return count;
}

// The way back along an axis, for the pixels that the positions with a remainder lie on.
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

// ---- Images times filters -----------------------------------------------------------------------

// Tiles of images are the least that a thread gets, so that low ones, down to `least_rows`, are
// better than unequal shares.
template <int64_t m, int64_t n, int64_t c_row, int least_rows = 8>
struct Matrices {
  static constexpr int LEAST_ROWS = least_rows;
  static constexpr int64_t M = m, N = n, K = 1, A_ROW = 1, A_COL = m, B_ROW = n, B_COL = 1,
                           C_ROW = c_row;
};

// C is cut into tiles of M rows and panels of N columns, whose kernels read columns of A that are
// neighbours.
template <typename T>
struct Blocks : Plan<T, void (*)(const Tile<T>&)> {
  int64_t last_pitch;  // of the last panel of packed weights
  Pack<T> pack_a[2];   // a plane of the images of a tile
  Pack<T> pack_b[2];   // weights of a panel

  int64_t pitch(int64_t panel) const { return this->is_last(panel) ? last_pitch : this->cols; }
  int64_t packed_row() const { return (this->panels - 1) * this->cols + last_pitch; }
};

// Images of PLANES planes. Weights in memory have C's columns side by side, or TRANSPOSED.
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

// A convolution of packed images: `weights` are panels of rows (y.kernel, x.kernel, channels).
template <typename T>
struct Pass {
  Axis y, x;
  int64_t width, channels, result_width;
  const T* weights;
};

// The images of a tile, packed as (HEIGHT, WIDTH, CHANNELS, images), give theirs of the result.
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

// How x, or g, lies in memory.
struct Images {
  int64_t image, planes, plane, plane_size;
};

// Calls convolve for every tile of images and every pass.
template <typename T>
[[gnu::noinline]] void convolve_all(const Blocks<T>& blocks, const Pass<T>* passes, int64_t count,
                                    const Images& from, const T* x, T* c, int64_t work,
                                    const Epilogue& epilogue) {
  const int64_t parts = std::clamp<int64_t>(work / MIN_WORK_PER_THREAD, 1,
                                            std::min<int64_t>(num_threads(), blocks.tiles));
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

// An epilogue of blocks of one matrix.
template <typename F>
auto of_one_matrix(const F& epilogue) {
  return [&](int64_t, int64_t i0, int64_t i1, int64_t j0, int64_t j1) { epilogue(i0, i1, j0, j1); };
}

// ---- Weights ------------------------------------------------------------------------------------

// Copies `steps` rows of all panels, those of a panel `rows` apart from the next panel's.
template <typename T>
void pack_panels(const Blocks<T>& blocks, const T* from, int64_t from_panel, int64_t from_row,
                 int64_t steps, T* to, int64_t first_row, int64_t rows) {
  for (int64_t panel = 0; panel < blocks.panels; ++panel) {
    blocks.pack_b[blocks.is_last(panel)](from + panel * from_panel, from_row, steps,
                                         to + first_row * blocks.pitch(panel));
    to += rows * blocks.cols;
  }
}

// Rows (KERNEL_HEIGHT, KERNEL_WIDTH, CHANNELS) of FILTERS columns.
template <class Shape, typename T>
const T* pack_weights(const Blocks<T>& blocks, const T* w) {
  constexpr int64_t ROWS = Shape::KERNEL_WIDTH * Shape::CHANNELS;
  T* const packed = scratch<T>(PACKED_B, Shape::KERNEL_HEIGHT * ROWS * blocks.packed_row());
  for (int64_t y = 0; y < Shape::KERNEL_HEIGHT; ++y)
    pack_panels(blocks, w + y * Shape::W_ROW, blocks.cols, Shape::FILTERS, ROWS, packed, y * ROWS,
                Shape::KERNEL_HEIGHT * ROWS);
  return packed;
}

// For each remainder of positions, rows (positions from the last to the first, FILTERS) of CHANNELS
// columns. Those of remainder (ry, rx) start where `remainder_offset` says.
template <class Shape, typename T>
int64_t remainder_offset(const Blocks<T>& blocks, int64_t ry, int64_t rx) {
  constexpr Axis Y = AXIS_Y<Shape>, X = AXIS_X<Shape>;
  const int64_t taps = taps_before(Y, ry) * X.kernel + taps_with(Y, ry) * taps_before(X, rx);
  return taps * Shape::FILTERS * blocks.packed_row();
}

template <class Shape, typename T>
const T* pack_mirrored_weights(const Blocks<T>& blocks, const T* w) {
  constexpr Axis Y = AXIS_Y<Shape>, X = AXIS_X<Shape>;
  constexpr int64_t TAP = Shape::CHANNELS * Shape::FILTERS;
  T* const packed =
      scratch<T>(PACKED_B, Y.kernel * X.kernel * Shape::FILTERS * blocks.packed_row());
  for (int64_t y = 0; y < Y.kernel; ++y) {
    for (int64_t x = 0; x < X.kernel; ++x) {
      const int64_t ry = y % Y.stride, rx = x % X.stride;
      const int64_t height = taps_with(Y, ry), width = taps_with(X, rx);
      const int64_t mirrored = (height - 1 - y / Y.stride) * width + width - 1 - x / X.stride;
      pack_panels(blocks, w + y * Shape::W_ROW + x * TAP, blocks.cols * Shape::FILTERS,
                  Shape::FILTERS, Shape::FILTERS, packed + remainder_offset<Shape>(blocks, ry, rx),
                  mirrored * Shape::FILTERS, height * width * Shape::FILTERS);
    }
  }
  return packed;
}

template <class Shape>
constexpr int64_t WORK =
    Shape::IMAGES * Shape::OUT_HEIGHT * Shape::OUT_WIDTH * Shape::KERNEL_HEIGHT *
    Shape::KERNEL_WIDTH * Shape::CHANNELS * Shape::FILTERS;

// ---- The gradient of w --------------------------------------------------------------------------

// The products that add to dw. A row of them is `taps` kernel positions side by side, with the
// channels of one plane. Few channels are taken together with all positions of a kernel's row, for
// which x gets the zeros at its left and right.
template <class Shape>
struct WeightGradient {
  static constexpr Axis Y = AXIS_Y<Shape>, X = AXIS_X<Shape>;
  static constexpr int64_t DEPTH = Shape::CHANNELS / Shape::PLANES;
  static constexpr bool WHOLE_ROWS = DEPTH < 8;
  static constexpr int64_t TAPS = WHOLE_ROWS ? X.kernel : 1;
  static constexpr int64_t PADDED_WIDTH = (X.outputs - 1) * X.stride + X.kernel;
  static constexpr int64_t WIDTH = WHOLE_ROWS ? PADDED_WIDTH : X.size;
  static constexpr int64_t ROW = WIDTH * DEPTH, PLANE = WHOLE_ROWS ? Y.size * ROW : Shape::X_PLANE;
  static constexpr int64_t IMAGE = WHOLE_ROWS ? Shape::PLANES * PLANE : Shape::X_IMAGE;
  static constexpr int64_t G_IMAGE = Y.outputs * X.outputs * Shape::FILTERS;
  // Threads share no tiles here, which are as high as they can be.
  using Block = Matrices<TAPS * DEPTH, Shape::FILTERS, Shape::PLANES * Shape::FILTERS, REGISTERS>;
  static constexpr int64_t ROWS_OF_PRODUCTS = Y.kernel * (X.kernel / TAPS) * Shape::PLANES;

  static constexpr Range outputs_of(int64_t x) {
    return WHOLE_ROWS ? Range{0, X.outputs} : X.outputs_of(x);
  }
};

// Some images with rows as WeightGradient has them, (images, PLANES, HEIGHT, WIDTH, DEPTH).
template <class Shape, typename T>
const T* pad_rows(const T* x, int64_t images) {
  using G = WeightGradient<Shape>;
  T* const padded = scratch<T>(PACKED_A, images * G::IMAGE);
  constexpr int64_t FIRST = std::clamp<int64_t>(-G::X.start, 0, G::WIDTH);
  constexpr int64_t LAST = std::clamp<int64_t>(G::X.size - G::X.start, FIRST, G::WIDTH);
  T* to = padded;
  for (int64_t i = 0; i < images * Shape::PLANES; ++i) {
    const T* from = x + i / Shape::PLANES * Shape::X_IMAGE + i % Shape::PLANES * Shape::X_PLANE;
    for (int64_t y = 0; y < G::Y.size; ++y, from += G::X.size * G::DEPTH, to += G::ROW) {
      std::fill_n(to, FIRST * G::DEPTH, T(0));
      std::copy_n(from + (G::X.start + FIRST) * G::DEPTH, (LAST - FIRST) * G::DEPTH,
                  to + FIRST * G::DEPTH);
      std::fill_n(to + LAST * G::DEPTH, (G::WIDTH - LAST) * G::DEPTH, T(0));
    }
  }
  return padded;
}

// Adds what some images bring to one tile of one row of products; `sum` is compact.
template <class Shape, typename T>
void add_weight_gradient(const Blocks<T>& blocks, const T* x, const T* g, T* sum, int64_t images,
                         int64_t number) {
  using G = WeightGradient<Shape>;
  constexpr int64_t ACROSS = G::X.kernel / G::TAPS, STEP = G::X.stride * G::DEPTH;
  const int64_t panel = number % blocks.panels, place = number / blocks.panels % blocks.tiles;
  const int64_t row = number / (blocks.panels * blocks.tiles), plane = row % Shape::PLANES;
  const int64_t kx = row / Shape::PLANES % ACROSS, ky = row / (Shape::PLANES * ACROSS);
  const int64_t first = blocks.row(place), rows = blocks.row(place + 1) - first;
  const Range along_y = G::Y.outputs_of(ky), along_x = G::outputs_of(kx);
  const int64_t count = along_x.last - along_x.first;
  if (count == 0) return;

  Tile<T> tile{};
  tile.c = sum + (ky * G::X.kernel + kx) * Shape::CHANNELS * Shape::FILTERS +
           (first * Shape::PLANES + plane) * Shape::FILTERS + panel * blocks.cols;
  tile.c_row = blocks.c_row;
  tile.accumulate = true;
  if constexpr (G::X.outputs == 1) {  // one run through the images
    tile.k = images, tile.a_step = G::IMAGE, tile.b_step = G::G_IMAGE;
    tile.runs = 1;
  } else {
    tile.k = count, tile.a_step = STEP, tile.b_step = Shape::FILTERS;
    tile.runs = images;
    tile.a_jump = G::IMAGE - count * STEP;
    tile.b_jump = G::G_IMAGE - count * Shape::FILTERS;
  }
  if (blocks.is_last(panel)) {
    const int64_t surplus = blocks.last_pitch - (blocks.n - panel * blocks.cols);
    tile.careful_steps = std::min(ceil_div(surplus, Shape::FILTERS), tile.k);
  }
  const int64_t left = (G::WHOLE_ROWS ? 0 : G::X.start + kx) + along_x.first * G::X.stride;
  for (int64_t i = along_y.first; i < along_y.last; ++i) {
    const int64_t y = G::Y.start + i * G::Y.stride + ky;
    tile.a = x + plane * G::PLANE + y * G::ROW + left * G::DEPTH + first;
    tile.b = g + (i * G::X.outputs + along_x.first) * Shape::FILTERS + panel * blocks.cols;
    blocks.kernels[rows > blocks.low][blocks.is_last(panel)](tile);
  }
}

// Elements [begin, end) of dw: the sums of the threads, zero where a kernel position is left out.
template <class Shape, typename T>
void join_weight_gradients(const T* sums, int64_t count, T* dw, int64_t begin, int64_t end) {
  constexpr int64_t ROW = Shape::KERNEL_WIDTH * Shape::CHANNELS * Shape::FILTERS;
  std::fill(dw + begin, dw + end, T(0));
  for (int64_t y = 0; y < Shape::KERNEL_HEIGHT; ++y) {
    const int64_t place = Shape::W_OFFSET + y * Shape::W_ROW;
    const int64_t first = std::max(begin, place), last = std::min(end, place + ROW);
    for (int64_t sum = 0; sum < count; ++sum) {
      const T* from = sums + (sum * Shape::KERNEL_HEIGHT + y) * ROW - place;
      for (int64_t i = first; i < last; ++i) dw[i] += from[i];
    }
  }
}

}  // namespace static_convolution_detail

template <class Shape, typename T, typename Epilogue = decltype(no_epilogue)>
void static_convolution(const T* x, const T* w, T* y, const Epilogue& epilogue = no_epilogue) {
  using namespace static_convolution_detail;
  constexpr int64_t PIXELS = Shape::OUT_HEIGHT * Shape::OUT_WIDTH;
  using C = Matrices<Shape::IMAGES, Shape::FILTERS, PIXELS * Shape::FILTERS>;
  static constexpr Blocks<T> BLOCKS = make_blocks<T, C, Shape::PLANES, false>();
  constexpr int64_t DEPTH = Shape::CHANNELS / Shape::PLANES;
  const Pass<T> passes[] = {{AXIS_Y<Shape>, AXIS_X<Shape>, Shape::WIDTH, Shape::CHANNELS,
                             Shape::OUT_WIDTH, pack_weights<Shape>(BLOCKS, w + Shape::W_OFFSET)}};
  const Images images{Shape::X_IMAGE, Shape::PLANES, Shape::X_PLANE,
                      Shape::HEIGHT * Shape::WIDTH * DEPTH};
  const auto finish = of_one_matrix(epilogue);
  convolve_all(BLOCKS, passes, 1, images, x, y, WORK<Shape>, epilogue_of(finish));
}

template <class Shape, typename T, typename Epilogue = decltype(no_epilogue)>
void static_convolution_input_gradient(const T* g, const T* w, T* dx,
                                       const Epilogue& epilogue = no_epilogue) {
  using namespace static_convolution_detail;
  constexpr int64_t PIXELS = Shape::OUT_HEIGHT * Shape::OUT_WIDTH;
  using C =
      Matrices<Shape::IMAGES, Shape::CHANNELS, Shape::HEIGHT * Shape::WIDTH * Shape::CHANNELS>;
  static constexpr Blocks<T> BLOCKS = make_blocks<T, C, 1, true>();
  const T* weights = pack_mirrored_weights<Shape>(BLOCKS, w + Shape::W_OFFSET);
  Pass<T> passes[Shape::STRIDE_Y * Shape::STRIDE_X];
  for (int64_t ry = 0; ry < Shape::STRIDE_Y; ++ry) {
    for (int64_t rx = 0; rx < Shape::STRIDE_X; ++rx) {
      passes[ry * Shape::STRIDE_X + rx] = {backward(AXIS_Y<Shape>, ry),
                                           backward(AXIS_X<Shape>, rx),
                                           Shape::OUT_WIDTH,
                                           Shape::FILTERS,
                                           Shape::WIDTH,
                                           weights + remainder_offset<Shape>(BLOCKS, ry, rx)};
    }
  }
  const Images images{PIXELS * Shape::FILTERS, 1, 0, PIXELS * Shape::FILTERS};
  const auto finish = of_one_matrix(epilogue);
  convolve_all(BLOCKS, passes, std::size(passes), images, g, dx, WORK<Shape>, epilogue_of(finish));
}

template <class Shape, typename T>
void static_convolution_weight_gradient(const T* x, const T* g, T* dw) {
  using namespace static_convolution_detail;
  using G = WeightGradient<Shape>;
  static constexpr Blocks<T> BLOCKS = make_blocks<T, typename G::Block, 1, false>();
  constexpr int64_t COUNT = G::ROWS_OF_PRODUCTS * BLOCKS.tiles * BLOCKS.panels;
  constexpr int64_t SIZE =
      Shape::KERNEL_HEIGHT * Shape::KERNEL_WIDTH * Shape::CHANNELS * Shape::FILTERS;
  // Images of which x and g stay in L2.
  constexpr int64_t SOME = std::max<int64_t>((256 << 10) / (G::IMAGE + G::G_IMAGE) / sizeof(T), 1);
  const int64_t parts = std::clamp<int64_t>(WORK<Shape> / MIN_WORK_PER_THREAD, 1,
                                            std::min<int64_t>(num_threads(), Shape::IMAGES));
  T* const sums = scratch<T>(PARTIAL_SUMS, parts * SIZE);
  // By images, as elsewhere: what a core has written is in its own caches.
  parallel_for(parts, [&](int64_t part) {
    T* const sum = sums + part * SIZE;
    std::fill_n(sum, SIZE, T(0));
    const int64_t last = part_start(Shape::IMAGES, parts, part + 1);
    for (int64_t i = part_start(Shape::IMAGES, parts, part); i < last; i += SOME) {
      const int64_t images = std::min(SOME, last - i);
      const T* from = x + i * Shape::X_IMAGE;
      if constexpr (G::WHOLE_ROWS) from = pad_rows<Shape>(from, images);
      for (int64_t number = 0; number < COUNT; ++number)
        add_weight_gradient<Shape>(BLOCKS, from, g + i * G::G_IMAGE, sum, images, number);
    }
  });
  parallel_for(parts, [&](int64_t part) {
    join_weight_gradients<Shape>(sums, parts, dw, part_start(Shape::W_ELEMENTS, parts, part),
                                 part_start(Shape::W_ELEMENTS, parts, part + 1));
  });
}

}  // namespace needle::NEEDLE_ISA
