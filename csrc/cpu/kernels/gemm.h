// gemm.h: C = A B + bias, the kernel under every matrix product.
//
// Contract: C (m, n) is row-major with row stride `c_row`, is overwritten, and may not alias A or
// B. A (m, k) and B (k, n) have any element strides: the caller need not copy transposed, sliced,
// broadcast (stride 0) or reversed (negative stride) operands. `bias` (n,) is added to every row;
// it may be null. m, n and k may be 0; if k = 0, C is the bias alone. For a fixed number of threads
// the result is the same from run to run: the order in which the terms of an element are summed
// depends on the shapes only.
//
// Idea (Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication"; BLIS, Van
// Zee & van de Geijn 2015): C is partitioned into register tiles of ROWS x COLS. The micro-kernel
// (gemm/micro_kernel.h) is the loop over k that computes one tile. The cache blocks around it are
// sized so that the operands of the micro-kernel are in cache. Operands that are read often are
// packed, that is, copied into the order in which the micro-kernel reads them (gemm/pack.h).
//
//   for each slab of B, SLAB_K x SLAB_N              packed (L3)
//     for each block of rows of C
//       for each KC of k                             block of A, rows x KC, packed (L2)
//         for each panel of B, KC x tile width       stays in L1
//           for each panel of A, tile height x KC    micro_kernel: one tile of C in registers
//
// Threads share no data: C is partitioned into a grid with one part for each thread, and each
// thread packs the operands that it reads. Packing an operand twice costs less than fetching it
// from another core's cache, and no thread waits for another (on 2 cores with separate L3 caches,
// 1024^3 gained 10 % over a shared slab).
//
// Bound: the FMA rate (peak.h). Measured in benchmarks/matmul.py.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "../threads.h"
#include "gemm/matrix_vector.h"
#include "gemm/micro_kernel.h"
#include "gemm/pack.h"
#include "gemm/scratch.h"
#include "gemm/sizes.h"

namespace needle::NEEDLE_ISA {

namespace gemm_detail {

// ---- Sizes ------------------------------------------------------------------------------------

// The tile fills the register file. On NEON, wider tiles with fewer rows were fastest.
#if defined(__ARM_NEON)
constexpr int TILE_VECTORS = 3, TILE_ROWS = 8;
#else
constexpr int TILE_VECTORS = 2, TILE_ROWS = tile_rows(TILE_VECTORS);
#endif

template <typename T>
struct Sizes {
  // A panel of B (KC x TILE_COLS) takes half of a 32 KiB L1 data cache. With AVX-512 the panel is
  // larger than that: its tiles read the panel more slowly, so that a longer loop over k gains more
  // than a hit in L1.
  static constexpr int64_t KC = REGISTER_BYTES == 64 ? 512 : 256;
  static constexpr int LANES = REGISTER_BYTES / sizeof(T);
  static constexpr int TILE_COLS = TILE_VECTORS * LANES;
  // A block of A takes at most a quarter of a 1 MiB L2, in whole panels.
  static constexpr int64_t BLOCK_PANELS = (256 << 10) / (TILE_ROWS * KC * sizeof(T));
  // A packed slab of B takes at most 8 MiB, a share of L3.
  static constexpr int64_t SLAB_K = 2048;
  static constexpr int64_t SLAB_N = (8 << 20) / (SLAB_K * sizeof(T)) / TILE_COLS * TILE_COLS;
};

// With fewer multiply-adds than this, starting a second thread costs more time than it saves.
constexpr int64_t MIN_WORK_PER_THREAD = 1 << 19;
// k is split among threads only into parts at least this long, because each part adds a pass over
// C.
constexpr int64_t MIN_SPLIT_K = 1024;

template <typename T>
struct Product {
  int64_t m, n, k;
  Matrix<T> a, b;
  T* c;
  int64_t c_row;
  const T* bias;    // null or n consecutive elements
  bool accumulate;  // C = C + A B, for the later parts of a product split along k
};

// ---- Kernels for tiles of any size --------------------------------------------------------------

template <typename T>
using MicroKernel = void (*)(const Tile<T>&);

// Calls `f` with the narrowest tile that holds `cols` columns, given as its number of vectors and
// the bytes of one vector: (1, 16), (1, 32), (1, 64) or (2, 64) with AVX-512. So four columns cost
// a quarter of what sixteen cost.
template <typename T, int COLS = 1, int BYTES = MIN_VECTOR_BYTES>
decltype(auto) with_tile(int64_t cols, auto&& f) {
  if constexpr (BYTES < REGISTER_BYTES) {
    if (cols * sizeof(T) > BYTES) return with_tile<T, COLS, BYTES * 2>(cols, f);
  } else if constexpr (COLS < TILE_VECTORS) {
    if (cols * sizeof(T) > COLS * BYTES) return with_tile<T, COLS + 1, BYTES>(cols, f);
  }
  return f(std::integral_constant<int, COLS>{}, std::integral_constant<int, BYTES>{});
}

template <typename T>
int64_t tile_cols(int64_t cols) {
  return with_tile<T>(cols, [](auto vectors, auto bytes) {
    return static_cast<int64_t>(vectors() * bytes() / sizeof(T));
  });
}

template <typename T, int COLS, bool NEIGHBOURS, int... ROWS>
constexpr auto kernels_by_height(std::integer_sequence<int, ROWS...>) {
  return std::array<MicroKernel<T>, sizeof...(ROWS)>{
      &micro_kernel<T, ROWS + 1, COLS, NEIGHBOURS>...};
}

// Micro-kernels for tiles of `cols` columns; element h - 1 is the one for h rows. With NEIGHBOURS,
// the elements of a column of A are adjacent in memory; otherwise each lies in its own row.
template <typename T, bool NEIGHBOURS = true>
const std::array<MicroKernel<T>, TILE_ROWS>& kernels_for(int64_t cols) {
  return with_tile<T>(cols, [](auto vectors, auto bytes) -> const auto& {
    static constexpr auto KERNELS =
        kernels_by_height<T, vectors() * bytes() / sizeof(T), NEIGHBOURS>(
            std::make_integer_sequence<int, TILE_ROWS>{});
    return KERNELS;
  });
}

// Computes the columns from `column` on of c = sum, or of c = addend + sum, in pieces of WIDTH,
// WIDTH / 2, ..., 1 columns.
template <typename T, int WIDTH>
void finish_edge(const Tile<T>& x, int64_t rows, int64_t cols, const T* sum, int64_t sum_row,
                 int64_t column = 0) {
  using V = Vector<T, WIDTH * sizeof(T)>;
  const T* const addend = x.bias ? x.bias : x.c;
  const int64_t addend_row = x.bias ? 0 : x.c_row;
  for (; cols - column >= WIDTH; column += WIDTH) {
    for (int64_t r = 0; r < rows; ++r) {
      V v = load<V>(sum + r * sum_row + column);
      if (x.accumulate) v += load<V>(addend + r * addend_row + column);
      store(x.c + r * x.c_row + column, v);
    }
  }
  if constexpr (WIDTH > 1) finish_edge<T, WIDTH / 2>(x, rows, cols, sum, sum_row, column);
}

// Computes a tile at the right edge of C: only `cols` of its `width` columns exist.
template <typename T>
[[gnu::noinline]] void multiply_edge(MicroKernel<T> kernel, Tile<T>& x, int64_t rows, int64_t cols,
                                     int64_t width) {
  alignas(64) T sum[TILE_ROWS * Sizes<T>::TILE_COLS];
  T* const c = std::exchange(x.c, sum);
  const int64_t c_row = std::exchange(x.c_row, width);
  const bool accumulate = std::exchange(x.accumulate, false);
  kernel(x);
  x.c = c, x.c_row = c_row, x.accumulate = accumulate;
  finish_edge<T, Sizes<T>::LANES>(x, rows, cols, sum, width);
}

template <typename T>
using KernelsByHeight = std::array<MicroKernel<T>, TILE_ROWS>;

// Computes a tile of `rows` rows and `cols` columns with micro-kernels for `width` columns.
template <typename T>
[[gnu::always_inline]] inline void multiply_tile(const KernelsByHeight<T>& kernels, Tile<T>& x,
                                                 int64_t rows, int64_t cols, int64_t width) {
  if (cols == width) return kernels[rows - 1](x);
  multiply_edge(kernels[rows - 1], x, rows, cols, width);
}

// ---- Blocks -----------------------------------------------------------------------------------

// The panels of an operand, packed or read in place. `stride` is the distance between panels,
// `step` the distance between the steps of a panel.
template <typename T>
struct Panels {
  const T* data;
  int64_t stride, step;

  const T* at(int64_t panel, int64_t p) const { return data + panel * stride + p * step; }
};

// B as panels of TILE_COLS columns. The last panel is packed even when the others are read in
// place, if its vectors would reach past the end of a row.
template <typename T>
struct Slab {
  int64_t panels;
  Panels<T> inner, last;

  const Panels<T>& of(int64_t panel) const { return panel < panels - 1 ? inner : last; }
};

// Packs the panels from `first` on. The last panel is as wide as its tile.
template <typename T>
Slab<T> pack_b(const Product<T>& x, int64_t first) {
  constexpr int64_t WIDTH = Sizes<T>::TILE_COLS;
  const int64_t panels = ceil_div(x.n, WIDTH), stride = x.k * WIDTH;
  T* packed = scratch<T>(PACKED_B, (panels - first) * stride);
  // A row-major B is read a few rows at a time along their whole length, the pattern that hardware
  // prefetchers detect.
  const int64_t run = x.b.col == 1 ? 4 : x.k;
  const auto source = [&](int64_t panel, int64_t p) {
    return Panel<T>{x.b.at(p, panel * WIDTH), x.b.col, x.b.row,
                    std::min(WIDTH, x.n - panel * WIDTH), std::min(run, x.k - p)};
  };
  for (int64_t p = 0; p < x.k; p += run) {
    for (int64_t panel = first; panel < panels - 1; ++panel)
      pack_lanes<T, WIDTH>(source(panel, p), packed + (panel - first) * stride + p * WIDTH);
  }
  T* packed_last = packed + (panels - 1 - first) * stride;
  const int64_t last_cols = x.n - (panels - 1) * WIDTH;
  with_tile<T>(last_cols, [&](auto vectors, auto bytes) {
    Panel<T> last = source(panels - 1, 0);
    last.steps = x.k;
    pack_panel<T, vectors() * bytes() / sizeof(T)>(last, packed_last);
  });
  return {panels, {packed, stride, WIDTH}, {packed_last, 0, tile_cols<T>(last_cols)}};
}

template <typename T>
Slab<T> make_slab(const Product<T>& x) {
  constexpr int64_t WIDTH = Sizes<T>::TILE_COLS;
  if (x.b.col != 1 || !reads_b_in_place(x.m, x.n, x.k, x.b.row * sizeof(T))) return pack_b(x, 0);
  const int64_t panels = ceil_div(x.n, WIDTH), last = panels - 1, last_cols = x.n - last * WIDTH;
  const Panels<T> in_place{x.b.data, WIDTH, x.b.row};
  if (tile_cols<T>(last_cols) == last_cols) {
    return {panels, in_place, {x.b.at(0, last * WIDTH), 0, x.b.row}};
  }
  return {panels, in_place, pack_b(x, last).last};
}

// How a block of rows of C reads A. The panels of a packed A have TILE_ROWS rows.
template <typename T>
struct BlockOfA {
  bool packed, neighbours;

  explicit BlockOfA(const Product<T>& x) {
    const bool by_columns = x.a.row == 1, by_rows = x.a.col == 1;
    const int64_t stride = (by_columns ? x.a.col : x.a.row) * static_cast<int64_t>(sizeof(T));
    packed =
        !(by_columns || by_rows) || !reads_a_in_place(x.n, Sizes<T>::TILE_COLS, by_columns, stride);
    neighbours = packed || by_columns;
  }
};

template <typename T>
const T* pack_a(const Product<T>& x, int64_t p, int64_t steps) {
  const int64_t panels = ceil_div(x.m, TILE_ROWS);
  T* packed = scratch<T>(PACKED_A, panels * TILE_ROWS * Sizes<T>::KC);
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t i = part_start(x.m, panels, panel), end = part_start(x.m, panels, panel + 1);
    pack_lanes<T, TILE_ROWS>({x.a.at(i, p), x.a.row, x.a.col, end - i, steps},
                             packed + panel * TILE_ROWS * steps);
  }
  return packed;
}

// Multiplies one block of rows over all of k and all columns; x.m is at most BLOCK_PANELS panels.
template <typename T>
void multiply_block(const Product<T>& x, const Slab<T>& slab) {
  constexpr int64_t WIDTH = Sizes<T>::TILE_COLS;
  const int64_t panels = ceil_div(x.m, TILE_ROWS), k_parts = ceil_div(x.k, Sizes<T>::KC);
  const BlockOfA<T> block(x);
  Tile<T> tile{};
  tile.a_row = x.a.row, tile.a_step = block.packed ? TILE_ROWS : x.a.col;
  tile.c_row = x.c_row;
  for (int64_t part = 0; part < k_parts; ++part) {
    const int64_t p = part_start(x.k, k_parts, part);
    tile.k = part_start(x.k, k_parts, part + 1) - p;
    const T* const bias = part > 0 || x.accumulate ? nullptr : x.bias;
    tile.accumulate = part > 0 || x.accumulate || bias;
    const T* a = block.packed ? pack_a(x, p, tile.k) : x.a.at(0, p);
    for (int64_t b_panel = 0; b_panel < slab.panels; ++b_panel) {
      const Panels<T>& b = slab.of(b_panel);
      const int64_t j = b_panel * WIDTH, cols = std::min(WIDTH, x.n - j),
                    width = tile_cols<T>(cols);
      const auto& kernels = block.neighbours ? kernels_for<T>(cols) : kernels_for<T, false>(cols);
      tile.b = b.at(b_panel, p), tile.b_step = b.step;
      tile.bias = bias ? bias + j : nullptr;
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t i = part_start(x.m, panels, panel);
        const int64_t rows = part_start(x.m, panels, panel + 1) - i;
        tile.a = a + (block.packed ? panel * TILE_ROWS * tile.k : i * x.a.row);
        tile.c = x.c + i * x.c_row + j;
        multiply_tile(kernels, tile, rows, cols, width);
      }
    }
  }
}

// The part of `x` with rows [i, i + m), columns [j, j + n) and inner range [p, p + k).
template <typename T>
Product<T> part_of(const Product<T>& x, int64_t i, int64_t m, int64_t j, int64_t n, int64_t p,
                   int64_t k) {
  return {m,
          n,
          k,
          {x.a.at(i, p), x.a.row, x.a.col},
          {x.b.at(p, j), x.b.row, x.b.col},
          x.c + i * x.c_row + j,
          x.c_row,
          x.bias ? x.bias + j : nullptr,
          x.accumulate || p > 0};
}

template <typename T>
void multiply_slabs(const Product<T>& x) {
  using S = Sizes<T>;
  const int64_t blocks = ceil_div(ceil_div(x.m, TILE_ROWS), S::BLOCK_PANELS);
  for (int64_t j = 0; j < x.n; j += S::SLAB_N) {
    for (int64_t p = 0; p < x.k; p += S::SLAB_K) {
      const Product<T> columns =
          part_of(x, 0, x.m, j, std::min(S::SLAB_N, x.n - j), p, std::min(S::SLAB_K, x.k - p));
      const Slab<T> slab = make_slab(columns);
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t i = part_start(x.m, blocks, block);
        multiply_block(
            part_of(columns, i, part_start(x.m, blocks, block + 1) - i, 0, columns.n, 0, columns.k),
            slab);
      }
    }
  }
}

// Computes C^T = B^T A^T (see is_swapped), one chunk of the rows of C at a time.
template <typename T>
void multiply_swapped(const Product<T>& x) {
  constexpr int64_t CHUNK = 1024;
  T* const transposed = scratch<T>(TRANSPOSED_C, x.n * std::min(CHUNK, x.m));
  for (int64_t first = 0; first < x.m; first += CHUNK) {
    const int64_t rows = std::min(CHUNK, x.m - first);
    multiply_slabs<T>({x.n,
                       rows,
                       x.k,
                       {x.b.data, x.b.col, x.b.row},
                       {x.a.at(first, 0), x.a.col, x.a.row},
                       transposed,
                       rows,
                       nullptr,
                       false});
    T* const c = x.c + first * x.c_row;
    transpose_matrix<T, square_side<T>(4)>(x.n, rows, transposed, rows, c, x.c_row);
    if (!x.bias) continue;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < x.n; ++j) c[i * x.c_row + j] += x.bias[j];
  }
}

template <typename T>
void multiply(const Product<T>& x) {
  if (!x.accumulate && is_swapped(x.m, x.n, x.a.row == 1)) return multiply_swapped(x);
  multiply_slabs(x);
}

// ---- Threads ----------------------------------------------------------------------------------

// The number of parts that m, n and k are split into.
struct Grid {
  int64_t m, n, k;
};

// The cost of the largest part, in vector multiply-adds. Packing one element costs about a quarter
// of a multiply-add.
template <typename T>
double part_cost(const Product<T>& x, const Grid& grid) {
  using S = Sizes<T>;
  const int64_t panels = ceil_div(ceil_div(x.n, S::TILE_COLS), grid.n);
  const double rows = ceil_div(x.m, grid.m);
  const double vectors = std::min(ceil_div(x.n, S::LANES), panels * TILE_VECTORS);
  return (rows * vectors + (rows + vectors * S::LANES) / 4) / grid.k;
}

// Prefers to split the rows: adjacent elements of a row-major C then stay with one thread, as in
// the element-wise kernels.
template <typename T>
Grid choose_grid(const Product<T>& x, int threads) {
  Grid best{1, 1, 1};
  for (int64_t m = threads; m >= 1; --m) {
    for (int64_t n = threads / m; n >= 1; --n) {
      const int64_t k = std::clamp<int64_t>(x.k / MIN_SPLIT_K, 1, threads / (m * n));
      const Grid grid{m, n, x.m * x.n <= TILE_ROWS * Sizes<T>::TILE_COLS * threads ? k : 1};
      if (part_cost(x, grid) < part_cost(x, best)) best = grid;
    }
  }
  return best;
}

template <typename T>
Product<T> part_of_grid(const Product<T>& x, const Grid& grid, int64_t task) {
  constexpr int64_t WIDTH = Sizes<T>::TILE_COLS;
  const int64_t k_task = task / (grid.m * grid.n), n_task = task % grid.n,
                m_task = task / grid.n % grid.m;
  const auto column = [&](int64_t part) {
    return std::min(x.n, part_start(ceil_div(x.n, WIDTH), grid.n, part) * WIDTH);
  };
  const int64_t i = part_start(x.m, grid.m, m_task), p = part_start(x.k, grid.k, k_task);
  return part_of(x, i, part_start(x.m, grid.m, m_task + 1) - i, column(n_task),
                 column(n_task + 1) - column(n_task), p, part_start(x.k, grid.k, k_task + 1) - p);
}

template <typename T>
void multiply_on_threads(const Product<T>& x, int threads) {
  const Grid grid = choose_grid(x, threads);
  T* sums = grid.k > 1 ? scratch<T>(PARTIAL_SUMS, (grid.k - 1) * x.m * x.n) : nullptr;
  for_each_task(threads, grid.m * grid.n * grid.k, [&](int task) {
    Product<T> part = part_of_grid(x, grid, task);
    const int64_t k_task = task / (grid.m * grid.n);
    if (k_task > 0) {  // later parts of k have sums of their own, added to C below
      const int64_t offset = part.c - x.c, i = offset / x.c_row, j = offset % x.c_row;
      part.c = sums + ((k_task - 1) * x.m + i) * x.n + j;
      part.c_row = x.n;
      part.bias = nullptr;
      part.accumulate = false;
    }
    multiply(part);
  });
  for (int64_t k_task = 1; k_task < grid.k; ++k_task) {
    const T* sum = sums + (k_task - 1) * x.m * x.n;
    for (int64_t i = 0; i < x.m; ++i)
      for (int64_t j = 0; j < x.n; ++j) x.c[i * x.c_row + j] += sum[i * x.n + j];
  }
}

// ---- Integers and bool ------------------------------------------------------------------------

// c = c + a * b. Integers wrap around; for bool, * is "and" and + is "or".
template <typename T>
inline T multiply_add(T c, T a, T b) {
  if constexpr (std::is_same_v<T, bool>) {
    return c || (a && b);
  } else {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(c) + static_cast<U>(a) * static_cast<U>(b));
  }
}

template <typename T>
void multiply_integer_rows(const Product<T>& x, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    T* __restrict c = x.c + i * x.c_row;
    for (int64_t p = 0; p < x.k; ++p) {
      const T a = *x.a.at(i, p);
      const T* b = x.b.at(p, 0);
      for (int64_t j = 0; j < x.n; ++j) c[j] = multiply_add(c[j], a, b[j * x.b.col]);
    }
  }
}

template <typename T>
void fill_with_bias(const Product<T>& x) {
  for (int64_t i = 0; i < x.m; ++i) {
    for (int64_t j = 0; j < x.n; ++j) x.c[i * x.c_row + j] = x.bias ? x.bias[j] : T(0);
  }
}

template <typename T>
const T* contiguous(const T* v, int64_t stride, int64_t count, ScratchUse use) {
  if (v == nullptr || stride == 1) return v;
  T* copy = scratch<T>(use, count);
  for (int64_t i = 0; i < count; ++i) copy[i] = v[i * stride];
  return copy;
}

template <typename T>
bool has_unit_stride(const Matrix<T>& x) {
  return x.row == 1 || x.col == 1;
}

template <typename T>
void multiply_floats(const Product<T>& x, int threads) {
  const Matrix<T> b_transposed{x.b.data, x.b.col, x.b.row};
  if (x.n == 1 && has_unit_stride(x.a)) {
    const T* v = contiguous(x.b.data, x.b.row, x.k, VECTOR);
    return multiply_vector<T>({x.m, x.k, x.a, v, x.c, x.c_row, x.bias, 0}, threads);
  }
  if (x.m == 1 && has_unit_stride(x.b)) {
    const T* v = contiguous(x.a.data, x.a.col, x.k, VECTOR);
    return multiply_vector<T>({x.n, x.k, b_transposed, v, x.c, 1, x.bias, 1}, threads);
  }
  multiply_on_threads(x, threads);
}

template <typename T>
void multiply_integers(const Product<T>& x, int threads) {
  fill_with_bias(x);
  const int64_t parts = std::min<int64_t>(x.m, threads);
  for_each_task(threads, parts, [&](int i) {
    multiply_integer_rows(x, part_start(x.m, parts, i), part_start(x.m, parts, i + 1));
  });
}

}  // namespace gemm_detail

template <typename T>
void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
          int64_t b_row, int64_t b_col, T* c, int64_t c_row, const T* bias, int64_t bias_stride) {
  using namespace gemm_detail;
  if (m == 0 || n == 0) return;
  const T* bias_row = contiguous(bias, bias_stride, n, BIAS);
  const Product<T> x{m, n, k, {a, a_row, a_col}, {b, b_row, b_col}, c, c_row, bias_row, false};
  const int threads = static_cast<int>(threads_for(m * n * k, MIN_WORK_PER_THREAD));
  if constexpr (std::is_floating_point_v<T>) {
    if (k == 0) return fill_with_bias(x);
    multiply_floats(x, threads);
  } else {
    multiply_integers(x, threads);
  }
}

}  // namespace needle::NEEDLE_ISA
