// gemm.h: C = A B + bias, the kernel under every matrix product.
//
// Contract: C (m, n) is row-major with row stride `c_row` and is overwritten; it may not alias A or
// B. A (m, k) and B (k, n) have any element strides: transposed, sliced, broadcast (0) and reversed
// (negative) operands need no copy by the caller. `bias` (n,) or null is added to every row. m, n
// and k may be 0; k = 0 gives the bias alone. For a fixed number of threads the result is the same
// from run to run: every element is summed in an order that depends on the shapes only.
//
// Idea (Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication"; BLIS, Van
// Zee & van de Geijn 2015): C is cut into tiles of ROWS x COLS vectors that fit into the registers.
// One tile is a loop over k of outer products, a column of A times a row of B, each read once for
// the whole tile. Around it, blocks are sized so that the operands of that loop are in cache, and
// are packed: copied into the order in which the loop reads them.
//
//   for each slab of B, SLAB_K x SLAB_N              packed (L3)
//     for each block of rows of C
//       for each KC of k                             block of A, rows x KC, packed (L2)
//         for each panel of B, KC x tile width       stays in L1
//           for each panel of A, tile height x KC    micro_kernel: one tile of C in registers
//
// Threads share nothing: C is cut into a grid of one part a thread, and each packs what it reads.
// Packing an operand twice costs less than fetching it from another core's cache, and there is
// nothing to wait for (on 2 cores of different L3 caches, 1024^3 gained 10 % over a shared slab).
//
// Bound: the FMA rate (peak.h). Measured in benchmarks/matmul.py.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#include "../scratch.h"
#include "../simd.h"
#include "../threads.h"
#include "vectors.h"

namespace needle::NEEDLE_ISA {

namespace gemm_detail {

using vectors::load, vectors::store, vectors::swap_lanes, vectors::transpose;

// ---- Sizes ------------------------------------------------------------------------------------

// The tile fills the register file: ROWS * COLS accumulators, COLS vectors of B and one broadcast
// element of A. AVX-512 and NEON have 32 registers, AVX2 and SSE2 have 16.
#if defined(__AVX512F__)
constexpr int TILE_ROWS = 14, TILE_VECTORS = 2;
#elif defined(__AVX2__)
constexpr int TILE_ROWS = 6, TILE_VECTORS = 2;
#elif defined(__ARM_NEON)
constexpr int TILE_ROWS = 8, TILE_VECTORS = 3;
#else
constexpr int TILE_ROWS = 4, TILE_VECTORS = 2;
#endif

constexpr int CACHE_LINE = 64;

constexpr int VECTOR_BYTES = REGISTER_BYTES;

// The narrowest vector, for tiles at the right edge.
constexpr int MIN_VECTOR_BYTES = 16;

template <typename T>
struct Sizes {
  static constexpr int LANES = VECTOR_BYTES / sizeof(T);
  static constexpr int TILE_COLS = TILE_VECTORS * LANES;
  // A panel of B (KC x TILE_COLS) is half of a 32 KiB L1 data cache; with AVX-512, whose tiles read
  // it more slowly, longer runs over k gain more than L1 does.
  static constexpr int64_t KC = VECTOR_BYTES == 64 ? 512 : 256;
  // A block of A (MC x KC) takes at most a quarter of a 1 MiB L2, in whole panels.
  static constexpr int64_t BLOCK_PANELS = (256 << 10) / (TILE_ROWS * KC * sizeof(T));
  // A packed slab of B takes at most 8 MiB, a share of L3.
  static constexpr int64_t SLAB_K = 2048;
  static constexpr int64_t SLAB_N = (8 << 20) / (SLAB_K * sizeof(T)) / TILE_COLS * TILE_COLS;
};

// Below this many multiply-adds a second thread costs more than it brings.
constexpr int64_t MIN_WORK_PER_THREAD = 1 << 19;
// k is cut among threads only in parts at least this long; each part ends in a sum over C.
constexpr int64_t MIN_SPLIT_K = 1024;
// An operand that is reused by at most this many rows (B) or columns (A) of C is read in place.
constexpr int64_t MAX_ROWS_DIRECT_B = 96, MAX_COLS_DIRECT_A = 128;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Start of part `i` of `parts` almost equal parts of `total`.
constexpr int64_t part_start(int64_t total, int64_t parts, int64_t i) { return total * i / parts; }

// ---- Operands and scratch ---------------------------------------------------------------------

// A matrix in memory: element (i, j) is data[i * row + j * col].
template <typename T>
struct Matrix {
  const T* data;
  int64_t row, col;

  const T* at(int64_t i, int64_t j) const { return data + i * row + j * col; }
};

template <typename T>
struct Product {
  int64_t m, n, k;
  Matrix<T> a, b;
  T* c;
  int64_t c_row;
  const T* bias;    // null or n consecutive elements
  bool accumulate;  // C = C + A B, the later parts of a product cut along k
};

// A 64-byte aligned buffer that grows and is freed with its thread.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  template <typename T>
  T* reserve(int64_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    if (bytes > capacity_) {
      std::free(memory_);
      memory_ = nullptr, capacity_ = 0;
      memory_ = allocate_scratch(bytes, 64);
      capacity_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  size_t capacity_ = 0;
};

// Those after PARTIAL_SUMS belong to kernels that are built on this one.
enum ScratchUse {
  PACKED_A,
  PACKED_B,
  BIAS,
  VECTOR,
  PARTIAL_SUMS,
  PATCHES,
  TRANSPOSED,
  TRIMMED,
  SCORES,
  SCORE_GRADIENTS,
  SCRATCH_USES
};

template <typename T>
T* scratch(ScratchUse use, int64_t count) {
  thread_local Scratch buffers[SCRATCH_USES];
  return buffers[use].reserve<T>(count);
}

template <typename F>
void for_each_task(int threads, int64_t tasks, F&& task) {
  if (threads > 1) {
    parallel_for(static_cast<int>(tasks), task);
  } else {
    for (int64_t i = 0; i < tasks; ++i) task(static_cast<int>(i));
  }
}

// ---- Vectors ----------------------------------------------------------------------------------

template <typename T, int BYTES = VECTOR_BYTES>
using Vector = vectors::Vector<T, BYTES>;

// ---- The micro-kernel: one tile of C ------------------------------------------------------------

// Where a tile goes: c = init + sum. `init` is the bias (stride 0), C itself while later parts of k
// are added, or null for zero.
template <typename T>
struct TileTarget {
  T* c;
  int64_t c_row;
  const T* init;
  int64_t init_row;
  int64_t cols;  // columns of the tile that exist in C
};

// c[0:WIDTH] = init[0:WIDTH] + sum[0:WIDTH] in `rows` rows.
template <typename T, int WIDTH>
inline void finish_columns(int rows, const T* sum, int64_t sum_row, const TileTarget<T>& to,
                           int64_t column) {
  using V = Vector<T, WIDTH * sizeof(T)>;
  for (int r = 0; r < rows; ++r) {
    V v = load<V>(sum + r * sum_row + column);
    if (to.init) v += load<V>(to.init + r * to.init_row + column);
    store(to.c + r * to.c_row + column, v);
  }
}

// A tile at the right edge: its `cols` columns in pieces of 16, 8, 4, 2 and 1.
template <typename T, int WIDTH>
inline void finish_edge(int rows, const T* sum, int64_t sum_row, const TileTarget<T>& to,
                        int64_t column = 0) {
  for (; to.cols - column >= WIDTH; column += WIDTH)
    finish_columns<T, WIDTH>(rows, sum, sum_row, to, column);
  if constexpr (WIDTH > 1) finish_edge<T, WIDTH / 2>(rows, sum, sum_row, to, column);
}

// sum over k of a[:, p] b[p, :], a column of ROWS elements times a row of COLS vectors. Column p
// of A starts at a + p * a_step, row p of B at b + p * b_step, both contiguous.
template <typename T, int ROWS, int COLS, int BYTES>
void micro_kernel(int64_t k, const T* a, int64_t a_step, const T* b, int64_t b_step,
                  const TileTarget<T>& to) {
  using V = Vector<T, BYTES>;
  constexpr int LANES = BYTES / sizeof(T);
  V sum[ROWS][COLS] = {};
  for (int64_t p = 0; p < k; ++p, a += a_step, b += b_step) {
    // The panels come from L2; asked for ahead, 512^3 to 2048^3 gained 5 % with AVX-512.
    __builtin_prefetch(a + 16 * a_step);
    __builtin_prefetch(b + 8 * b_step);
    if (COLS * BYTES > CACHE_LINE) __builtin_prefetch(b + 8 * b_step + CACHE_LINE / sizeof(T));
    V row[COLS];
#pragma GCC unroll 16
    for (int j = 0; j < COLS; ++j) row[j] = load<V>(b + j * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < COLS; ++j) sum[i][j] += a[i] * row[j];
    }
  }
  if (to.cols == COLS * LANES) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < COLS; ++j) {
        if (to.init) sum[i][j] += load<V>(to.init + i * to.init_row + j * LANES);
        store(to.c + i * to.c_row + j * LANES, sum[i][j]);
      }
    }
  } else {
    alignas(VECTOR_BYTES) T edge[ROWS * COLS * LANES];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < COLS; ++j) store(edge + (i * COLS + j) * LANES, sum[i][j]);
    }
    finish_edge<T, LANES>(ROWS, edge, COLS * LANES, to);
  }
}

template <typename T>
using MicroKernel = void (*)(int64_t, const T*, int64_t, const T*, int64_t, const TileTarget<T>&);

// Calls `f` with the narrowest tile that holds `cols` columns, as its number of vectors and the
// bytes of one: (1, 16), (1, 32), (1, 64), (2, 64) with AVX-512. Four columns cost a quarter of
// sixteen.
template <typename T, int COLS = 1, int BYTES = MIN_VECTOR_BYTES>
decltype(auto) with_tile(int64_t cols, auto&& f) {
  if constexpr (BYTES < VECTOR_BYTES) {
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

template <typename T, int COLS, int BYTES, int... ROWS>
constexpr auto kernels_by_height(std::integer_sequence<int, ROWS...>) {
  return std::array<MicroKernel<T>, sizeof...(ROWS)>{&micro_kernel<T, ROWS + 1, COLS, BYTES>...};
}

// Kernels for tiles of `cols` columns; element h - 1 is the one for h rows.
template <typename T>
const std::array<MicroKernel<T>, TILE_ROWS>& kernels_for(int64_t cols) {
  return with_tile<T>(cols, [](auto vectors, auto bytes) -> const auto& {
    static constexpr auto KERNELS =
        kernels_by_height<T, vectors(), bytes()>(std::make_integer_sequence<int, TILE_ROWS>{});
    return KERNELS;
  });
}

// ---- Packing ----------------------------------------------------------------------------------

// A panel to pack: `steps` vectors of `lanes` elements each. Packed, step p is the WIDTH elements
// at p * WIDTH; those past `lanes` are finite padding that never reaches C.
template <typename T>
struct Panel {
  const T* data;
  int64_t lane_stride, step_stride;
  int64_t lanes, steps;

  const T* lane(int64_t i) const { return data + std::min(i, lanes - 1) * lane_stride; }
};

template <typename T, int WIDTH>
void pack_strided(const Panel<T>& from, int64_t first_step, T* to) {
  for (int i = 0; i < WIDTH; ++i) {
    const T* lane = from.lane(i);
    for (int64_t p = first_step; p < from.steps; ++p)
      to[p * WIDTH + i] = lane[p * from.step_stride];
  }
}

// Copies `lanes` of every step in pieces of WIDTH, WIDTH / 2, ..., 1.
template <typename T, int WIDTH, int STEP = WIDTH>
void pack_contiguous_lanes(const Panel<T>& from, T* to, int64_t first = 0) {
  for (; from.lanes - first >= WIDTH; first += WIDTH) {
    for (int64_t p = 0; p < from.steps; ++p)
      std::memcpy(to + p * STEP + first, from.data + p * from.step_stride + first,
                  WIDTH * sizeof(T));
  }
  if constexpr (WIDTH > 1) pack_contiguous_lanes<T, WIDTH / 2, STEP>(from, to, first);
}

template <typename T, int WIDTH>
void pack_contiguous_steps(const Panel<T>& from, T* to) {
  constexpr int SIDE =
      std::bit_floor(std::min<unsigned>(WIDTH, std::min(VECTOR_BYTES, 32) / sizeof(T)));
  const int64_t whole = from.steps / SIDE * SIDE;
  for (int block = 0; block < WIDTH; block += SIDE) {
    const int first = std::min(block, WIDTH - SIDE);  // the last square may overlap its neighbour
    const T* lanes[SIDE];
    for (int i = 0; i < SIDE; ++i) lanes[i] = from.lane(first + i);
    for (int64_t p = 0; p < whole; p += SIDE) {
      using V = Vector<T, SIDE * sizeof(T)>;
      V square[SIDE];
#pragma GCC unroll 16
      for (int i = 0; i < SIDE; ++i) square[i] = load<V>(lanes[i] + p);
      transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < SIDE; ++i) store(to + (p + i) * WIDTH + first, square[i]);
    }
  }
  pack_strided<T, WIDTH>(from, whole, to);
}

template <typename T, int WIDTH>
void pack_panel(const Panel<T>& from, T* to) {
  if (from.lane_stride == 1) {
    if (from.lanes < WIDTH) std::fill_n(to, from.steps * WIDTH, T(0));
    return pack_contiguous_lanes<T, WIDTH>(from, to);
  }
  if (from.step_stride == 1) return pack_contiguous_steps<T, WIDTH>(from, to);
  pack_strided<T, WIDTH>(from, 0, to);
}

// ---- Blocks -----------------------------------------------------------------------------------

// Panels of an operand, each `stride` apart with steps `step` apart: packed, or where they stand.
template <typename T>
struct Panels {
  const T* data;
  int64_t stride, step;

  const T* at(int64_t panel, int64_t p) const { return data + panel * stride + p * step; }
};

// B as panels of TILE_COLS columns. The last one is packed even when the others are read in place,
// where its vectors would reach past the end of a row.
template <typename T>
struct Slab {
  int64_t panels;
  Panels<T> inner, last;

  const Panels<T>& of(int64_t panel) const { return panel < panels - 1 ? inner : last; }
};

// Packs the panels from `first` on, the last one as wide as its tile.
template <typename T>
Slab<T> pack_b(const Product<T>& x, int64_t first) {
  constexpr int64_t WIDTH = Sizes<T>::TILE_COLS;
  const int64_t panels = ceil_div(x.n, WIDTH), stride = x.k * WIDTH;
  T* packed = scratch<T>(PACKED_B, (panels - first) * stride);
  const auto source = [&](int64_t panel) {
    return Panel<T>{x.b.at(0, panel * WIDTH), x.b.col, x.b.row,
                    std::min(WIDTH, x.n - panel * WIDTH), x.k};
  };
  for (int64_t panel = first; panel < panels - 1; ++panel)
    pack_panel<T, WIDTH>(source(panel), packed + (panel - first) * stride);
  const Panel<T> last = source(panels - 1);
  T* packed_last = packed + (panels - 1 - first) * stride;
  with_tile<T>(last.lanes, [&](auto vectors, auto bytes) {
    pack_panel<T, vectors() * bytes() / sizeof(T)>(last, packed_last);
  });
  return {panels, {packed, stride, WIDTH}, {packed_last, 0, tile_cols<T>(last.lanes)}};
}

template <typename T>
Slab<T> make_slab(const Product<T>& x) {
  constexpr int64_t WIDTH = Sizes<T>::TILE_COLS;
  if (x.b.col != 1 || x.m > MAX_ROWS_DIRECT_B) return pack_b(x, 0);
  const int64_t panels = ceil_div(x.n, WIDTH), last = panels - 1, last_cols = x.n - last * WIDTH;
  const Panels<T> in_place{x.b.data, WIDTH, x.b.row};
  if (tile_cols<T>(last_cols) == last_cols) {
    return {panels, in_place, {x.b.at(0, last * WIDTH), 0, x.b.row}};
  }
  return {panels, in_place, pack_b(x, last).last};
}

// One block of rows, all of k and all columns: x.m is at most BLOCK_PANELS panels.
template <typename T>
void multiply_block(const Product<T>& x, const Slab<T>& slab) {
  constexpr int64_t WIDTH = Sizes<T>::TILE_COLS;
  const int64_t panels = ceil_div(x.m, TILE_ROWS), k_parts = ceil_div(x.k, Sizes<T>::KC);
  const bool direct = x.a.row == 1 && x.n <= MAX_COLS_DIRECT_A;
  T* packed = direct ? nullptr : scratch<T>(PACKED_A, panels * TILE_ROWS * Sizes<T>::KC);
  for (int64_t part = 0; part < k_parts; ++part) {
    const int64_t p = part_start(x.k, k_parts, part);
    const int64_t steps = part_start(x.k, k_parts, part + 1) - p;
    for (int64_t panel = 0; panel < panels && !direct; ++panel) {
      const int64_t i = part_start(x.m, panels, panel);
      pack_panel<T, TILE_ROWS>(
          {x.a.at(i, p), x.a.row, x.a.col, std::min<int64_t>(TILE_ROWS, x.m - i), steps},
          packed + panel * TILE_ROWS * steps);
    }
    for (int64_t b_panel = 0; b_panel < slab.panels; ++b_panel) {
      const Panels<T>& b = slab.of(b_panel);
      const int64_t j = b_panel * WIDTH, cols = std::min(WIDTH, x.n - j);
      const auto& kernels = kernels_for<T>(cols);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t i = part_start(x.m, panels, panel);
        const int64_t rows = part_start(x.m, panels, panel + 1) - i;
        T* c = x.c + i * x.c_row + j;
        const T* init = part > 0 || x.accumulate ? c : x.bias ? x.bias + j : nullptr;
        const TileTarget<T> to{c, x.c_row, init, init == c ? x.c_row : 0, cols};
        const T* a = direct ? x.a.at(i, p) : packed + panel * TILE_ROWS * steps;
        kernels[rows - 1](steps, a, direct ? x.a.col : TILE_ROWS, b.at(b_panel, p), b.step, to);
      }
    }
  }
}

// Rows [i, i + m), columns [j, j + n) and inner range [p, p + k) of `x`.
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
void multiply(const Product<T>& x) {
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

// ---- Threads ----------------------------------------------------------------------------------

// How many parts m, n and k are cut into.
struct Grid {
  int64_t m, n, k;
};

// Vector multiply-adds of the largest part, and its packing at about a quarter of one an element.
template <typename T>
double part_cost(const Product<T>& x, const Grid& grid) {
  using S = Sizes<T>;
  const int64_t panels = ceil_div(ceil_div(x.n, S::TILE_COLS), grid.n);
  const double rows = ceil_div(x.m, grid.m);
  const double vectors = std::min(ceil_div(x.n, S::LANES), panels * TILE_VECTORS);
  return (rows * vectors + (rows + vectors * S::LANES) / 4) / grid.k;
}

// Rows first: neighbours of a row-major C stay with one thread, as in the element-wise kernels.
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
    if (k_task > 0) {  // later parts of k are summed apart and added to the first below
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

// ---- Matrix times vector ------------------------------------------------------------------------

// y = M v + bias, the products with m = 1 or n = 1, bound by reading M once.
template <typename T>
struct MatrixVector {
  int64_t rows, k;
  Matrix<T> matrix;
  const T* v;  // k consecutive elements
  T* y;
  int64_t y_stride;
  const T* bias;
  int64_t bias_stride;

  T init(int64_t i) const { return bias ? bias[i * bias_stride] : T(0); }
};

// Rows of consecutive elements: dot products, ROWS at a time.
template <typename T, int ROWS>
void dot_rows(const MatrixVector<T>& x, int64_t i) {
  using V = Vector<T>;
  constexpr int LANES = Sizes<T>::LANES;
  V sum[ROWS] = {};
  int64_t p = 0;
  for (; p + LANES <= x.k; p += LANES) {
    const V v = load<V>(x.v + p);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) sum[r] += load<V>(x.matrix.at(i + r, p)) * v;
  }
  for (int r = 0; r < ROWS; ++r) {
    T total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += sum[r][lane];
    for (int64_t q = p; q < x.k; ++q) total += *x.matrix.at(i + r, q) * x.v[q];
    x.y[(i + r) * x.y_stride] = total + x.init(i + r);
  }
}

// Columns of consecutive elements: a sum of columns, four at a time, in a strip that stays in L1.
template <typename T>
void sum_columns(const MatrixVector<T>& x, int64_t first, int64_t last) {
  constexpr int64_t STRIP = 2048;
  alignas(64) T sum[STRIP];
  for (int64_t i = first; i < last; i += STRIP) {
    const int64_t rows = std::min(STRIP, last - i);
    std::fill_n(sum, rows, T(0));
    int64_t p = 0;
    for (; p + 4 <= x.k; p += 4) {
      const T *m0 = x.matrix.at(i, p), *m1 = x.matrix.at(i, p + 1), *m2 = x.matrix.at(i, p + 2),
              *m3 = x.matrix.at(i, p + 3);
      const T v0 = x.v[p], v1 = x.v[p + 1], v2 = x.v[p + 2], v3 = x.v[p + 3];
      for (int64_t r = 0; r < rows; ++r)
        sum[r] += m0[r] * v0 + m1[r] * v1 + m2[r] * v2 + m3[r] * v3;
    }
    for (; p < x.k; ++p)
      for (int64_t r = 0; r < rows; ++r) sum[r] += *x.matrix.at(i + r, p) * x.v[p];
    for (int64_t r = 0; r < rows; ++r) x.y[(i + r) * x.y_stride] = sum[r] + x.init(i + r);
  }
}

template <typename T>
void multiply_vector(const MatrixVector<T>& x, int threads) {
  const int64_t parts = std::min<int64_t>(threads, x.rows);
  for_each_task(threads, parts, [&](int part) {
    int64_t i = part_start(x.rows, parts, part);
    const int64_t last = part_start(x.rows, parts, part + 1);
    if (x.matrix.col != 1) return sum_columns(x, i, last);
    for (; i + 4 <= last; i += 4) dot_rows<T, 4>(x, i);
    for (; i < last; ++i) dot_rows<T, 1>(x, i);
  });
}

// ---- Integers and bool ------------------------------------------------------------------------

// c = c + a * b, wrapping around for integers; bool is (or, and).
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
  const int threads =
      static_cast<int>(std::clamp<int64_t>(m * n * k / MIN_WORK_PER_THREAD, 1, num_threads()));
  if constexpr (std::is_floating_point_v<T>) {
    if (k == 0) return fill_with_bias(x);
    multiply_floats(x, threads);
  } else {
    multiply_integers(x, threads);
  }
}

}  // namespace needle::NEEDLE_ISA
