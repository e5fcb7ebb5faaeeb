// static_gemm.h: C = A B for shapes and strides that are known when the code is compiled.
//
// Contract: `Shape` has the constants M, N, K >= 1, the element strides A_ROW, A_COL, B_ROW, B_COL
// (one of each pair is 1) and C_ROW; C (M, N) is row-major, aliases neither A nor B, and is
// overwritten, or added to with ACCUMULATE. Batched products also have BATCH and the strides
// A_BATCH, B_BATCH, C_BATCH. `epilogue` is called on blocks that tile C exactly once, each on the
// thread that computed it and while it is in L1 or L2. For a fixed number of parts the result is
// the same from run to run: every element is summed in an order that depends on the shape only.
// Products are added plainly, K in slabs, as in every BLAS: the error is at most K·u·Σ|ab|.
// An epilogue may not multiply matrices itself: the scratch memory is the thread's.
//
// Idea: the blocking of gemm.h (Goto & van de Geijn 2008; BLIS, Van Zee & van de Geijn 2015), with
// every decision taken by the compiler, as in libxsmm (Heinecke et al. 2016): M is cut into tiles
// of two neighbouring heights, the last columns have a kernel of exactly their width, and an
// operand is packed only where reading it in place would cost more. Micro-kernels depend on the
// size of their tile alone, so that the shapes of a program share them.
//
// Bound: the FMA rate (peak.h). Measured in benchmarks/native/static_gemm.cpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "../scratch.h"
#include "../simd.h"
#include "../threads.h"
#include "vectors.h"

namespace needle::NEEDLE_ISA {

namespace static_gemm_detail {

using vectors::load, vectors::store, vectors::swap_lanes, vectors::transpose;

// ---- Sizes ------------------------------------------------------------------------------------

// Accumulators, a row of B and one element of A fill the registers: 32 with AVX-512 and NEON.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

constexpr int MIN_VECTOR_BYTES = 16;
constexpr int CACHE_LINE = 64;

// Below this many multiply-adds a second thread costs more than it brings.
constexpr int64_t MIN_WORK_PER_THREAD = 1 << 17;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Start of part `i` of `parts` almost equal parts of `total`.
constexpr int64_t part_start(int64_t total, int64_t parts, int64_t i) { return total * i / parts; }

struct Range {
  int64_t first, last;
};

// Rows that are `stride` bytes apart meet in few sets of a cache of 64 sets if this is small.
constexpr int64_t distinct_sets(int64_t stride) {
  if (stride % CACHE_LINE != 0) return 64;
  int64_t lines = stride / CACHE_LINE, sets = 64;
  for (; lines % 2 == 0 && sets > 1; lines /= 2) sets /= 2;
  return sets;
}

constexpr int tile_rows(int vectors) { return std::min(14, (REGISTERS - 1 - vectors) / vectors); }

// Tiles with few rows need more columns: eight multiply-adds in flight hide their latency.
constexpr int tile_vectors(int64_t rows) {
  for (int vectors = 4; vectors > 2; --vectors)
    if (rows <= tile_rows(vectors)) return vectors;
  return 2;
}

// M in tiles of two neighbouring heights; an even number of them, or a multiple of four where that
// leaves them high enough, so that threads get equal shares.
constexpr int64_t count_tiles(int64_t m, int height, int high_enough) {
  const int64_t least = ceil_div(m, height);
  for (const int64_t multiple : {4, 2}) {
    const int64_t count = ceil_div(least, multiple) * multiple;
    if (m >= count * high_enough) return count;
  }
  return least;
}

// A panel of COLS columns in vectors: whole ones, then one that is as narrow as the rest allows.
template <typename T, int COLS>
struct Columns {
  static constexpr int LANES = REGISTER_BYTES / sizeof(T);
  static constexpr int WHOLE = COLS / LANES, REST = COLS % LANES;
  static constexpr int EDGE_LANES =
      REST == 0 ? 0 : std::max<int>(MIN_VECTOR_BYTES / sizeof(T), std::bit_ceil(unsigned(REST)));
  static constexpr int PITCH = WHOLE * LANES + EDGE_LANES;  // elements that a step reads
};

// ---- Scratch ----------------------------------------------------------------------------------

constexpr size_t HUGE_PAGE = 2 << 20;

// A 64-byte aligned buffer that grows and is freed with its thread, in huge pages where it is
// large.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  void* reserve(size_t bytes) {
    if (bytes > capacity_) {
      std::free(memory_);
      memory_ = nullptr, capacity_ = 0;
      const size_t unit = bytes < HUGE_PAGE ? 64 : HUGE_PAGE;
      memory_ = allocate_scratch((bytes + unit - 1) / unit * unit, unit);
#ifdef MADV_HUGEPAGE
      if (unit == HUGE_PAGE) madvise(memory_, bytes, MADV_HUGEPAGE);
#endif
      capacity_ = bytes;
    }
    return memory_;
  }

 private:
  void* memory_ = nullptr;
  size_t capacity_ = 0;
};

enum ScratchUse { PACKED_A, PACKED_B, TRANSPOSED_C, PARTIAL_SUMS, SCRATCH_USES };

template <typename T>
T* scratch(ScratchUse use, int64_t count) {
  thread_local Scratch buffers[SCRATCH_USES];
  return static_cast<T*>(buffers[use].reserve(count * sizeof(T)));
}

// ---- Vectors ----------------------------------------------------------------------------------

template <typename T, int BYTES>
struct VectorOf {
  using Type [[gnu::vector_size(BYTES)]] = T;
};
template <typename T, int LANES>
using Vector = typename VectorOf<T, LANES * sizeof(T)>::Type;

template <typename V, int COUNT, typename T>
inline V load_first(const T* from) {
  V v{};
  std::memcpy(&v, from, COUNT * sizeof(T));
  return v;
}

// Makes `v` a register: GCC would rather read it from memory again at each of its uses.
template <typename V>
[[gnu::always_inline]] inline void keep_in_register([[maybe_unused]] V& v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__ARM_NEON)
  asm("" : "+w"(v));
#endif
}

// ---- The micro-kernel: one tile of C ------------------------------------------------------------

// Column p of A starts at a + p * a_step, row p of B at b + p * b_step. Kernels with RUNS start
// again after the k-th, from where a_jump and b_jump lead, and sum `runs` times as many: the
// batch-reduce product of Georganas et al. (2020, "Harnessing Deep Learning via a Single Building
// Block").
template <typename T>
struct Tile {
  int64_t k;
  const T* a;
  int64_t a_row, a_step;
  const T* b;
  int64_t b_step;
  T* c;
  int64_t c_row;
  bool accumulate;
  int64_t careful_steps;  // the last rows of B in a run, read no further than their columns
  int64_t runs, a_jump, b_jump;
};

// The ROWS elements of a column of A: neighbours, or in rows `stride` apart. Seven rows need three
// registers besides their base, since an address may scale its index by 2 and 4.
template <typename T, int ROWS, bool NEIGHBOURS>
class ColumnOfA {
 public:
  explicit ColumnOfA(const Tile<T>& x)
      : first_(reinterpret_cast<const char*>(x.a)),
        step_(x.a_step * sizeof(T)),
        once_(x.a_row * sizeof(T)),
        thrice_(3 * once_),
        five_(5 * once_) {
    // Opaque to the compiler, which would keep a pointer for every row.
    asm("" : "+r"(once_), "+r"(thrice_), "+r"(five_));
    second_ = first_ + 7 * once_;
  }

  [[gnu::always_inline]] T operator[](int i) const {
    if constexpr (NEIGHBOURS) return load<T>(reinterpret_cast<const T*>(first_) + i);
    const char* base = i < 7 ? first_ : second_;
    return load<T>(reinterpret_cast<const T*>(base + offset(i % 7)));
  }

  [[gnu::always_inline]] void prefetch(int steps) const {
    __builtin_prefetch(first_ + steps * step_);
  }

  [[gnu::always_inline]] void advance() { move(NEIGHBOURS ? step_ : sizeof(T)); }

  [[gnu::always_inline]] void move(int64_t bytes) {
    first_ += bytes;
    if constexpr (!NEIGHBOURS && ROWS > 7) second_ += bytes;
  }

 private:
  [[gnu::always_inline]] int64_t offset(int row) const {
    switch (row) {
      case 0:
        return 0;
      case 1:
        return once_;
      case 2:
        return 2 * once_;
      case 3:
        return thrice_;
      case 4:
        return 4 * once_;
      case 5:
        return five_;
      default:
        return 2 * thrice_;
    }
  }

  const char *first_, *second_;
  int64_t step_, once_, thrice_, five_;
};

// c = sum over k of a[:, p] b[p, :], a column of ROWS elements times a row of COLS.
template <typename T, int ROWS, int COLS, bool NEIGHBOURS, bool RUNS = false>
[[gnu::noinline]] void micro_kernel(const Tile<T>& x) {
  using In = Columns<T, COLS>;
  constexpr int LANES = In::LANES, WHOLE = In::WHOLE, REST = In::REST;
  constexpr int EDGE_LANES = REST ? In::EDGE_LANES : LANES;
  using V = Vector<T, LANES>;
  using Edge = Vector<T, EDGE_LANES>;
  V sum[ROWS][WHOLE + 1] = {};
  Edge edge_sum[ROWS] = {};
  ColumnOfA<T, ROWS, NEIGHBOURS> a(x);
  const T* b = x.b;
  const int64_t b_step = x.b_step;
  int64_t ahead = 8 * b_step;
  asm("" : "+r"(ahead));  // one register for both prefetches

  const auto add_products = [&](const Edge edge) __attribute__((always_inline)) {
    V row[WHOLE + 1];
#pragma GCC unroll 16
    for (int j = 0; j < WHOLE; ++j) row[j] = load<V>(b + j * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const T element = a[i];
#pragma GCC unroll 16
      for (int j = 0; j < WHOLE; ++j) sum[i][j] += element * row[j];
      if constexpr (REST != 0) edge_sum[i] += element * edge;
    }
    a.advance();
    b += b_step;
  };

  for (int64_t run = RUNS ? x.runs : 1; run > 0; --run) {
    for (int64_t steps = x.k - x.careful_steps; steps > 0; --steps) {
      if constexpr (NEIGHBOURS) a.prefetch(16);
      __builtin_prefetch(b + ahead);
      if constexpr (COLS * sizeof(T) > CACHE_LINE)
        __builtin_prefetch(b + ahead + CACHE_LINE / sizeof(T));
      if constexpr (REST != 0)
        add_products(load<Edge>(b + WHOLE * LANES));
      else
        add_products(Edge{});
    }
    if constexpr (REST != EDGE_LANES && REST != 0) {
      for (int64_t steps = x.careful_steps; steps > 0; --steps)
        add_products(load_first<Edge, REST>(b + WHOLE * LANES));
    }
    if constexpr (RUNS) {
      a.move(x.a_jump * sizeof(T));
      b += x.b_jump;
    }
  }

  if (x.accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const T* c = x.c + i * x.c_row;
#pragma GCC unroll 16
      for (int j = 0; j < WHOLE; ++j) sum[i][j] += load<V>(c + j * LANES);
      if constexpr (REST != 0) edge_sum[i] += load_first<Edge, REST>(c + WHOLE * LANES);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
    T* c = x.c + i * x.c_row;
#pragma GCC unroll 16
    for (int j = 0; j < WHOLE; ++j) store(c + j * LANES, sum[i][j]);
    if constexpr (REST != 0) std::memcpy(c + WHOLE * LANES, &edge_sum[i], REST * sizeof(T));
  }
}

// ---- Packing ----------------------------------------------------------------------------------

// to[j][i] = from[i][j] for `count` squares of SIDE rows, side by side.
template <typename T, int SIDE>
[[gnu::noinline]] void transpose_squares(int64_t count, const T* from, int64_t from_row, T* to,
                                         int64_t to_row) {
  using V = Vector<T, SIDE>;
  for (; count > 0; --count, from += SIDE, to += SIDE * to_row) {
    V square[SIDE];
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; ++i) square[i] = load<V>(from + i * from_row);
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; ++i) store(to + i * to_row, square[i]);
  }
}

// The side of the squares that `rows` rows are transposed in, 1 for none.
template <typename T>
constexpr int square_side(int64_t rows) {
  const int lanes = std::min<int64_t>(std::min(REGISTER_BYTES, 32) / sizeof(T),
                                      std::bit_floor(static_cast<uint64_t>(rows)));
  return lanes * sizeof(T) < MIN_VECTOR_BYTES ? 1 : lanes;
}

// to[j][i] = from[i][j] for a matrix of rows x cols. The last squares overlap their neighbours.
template <typename T, int SIDE>
[[gnu::noinline]] void transpose_matrix(int64_t rows, int64_t cols, const T* from, int64_t from_row,
                                        T* to, int64_t to_row) {
  if (SIDE == 1 || rows < SIDE || cols < SIDE) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) to[j * to_row + i] = from[i * from_row + j];
    return;
  }
  if constexpr (SIDE > 1) {
    constexpr int64_t RUN = 64;  // columns: what they become stays in L1 until its lines are full
    for (int64_t j = 0; j < cols; j += RUN) {
      const int64_t width = std::min(RUN, cols - j);
      for (int64_t row = 0; row < rows; row += SIDE) {
        const int64_t i = std::min(row, rows - SIDE), last = cols - SIDE;
        transpose_squares<T, SIDE>(width / SIDE, from + i * from_row + j, from_row,
                                   to + j * to_row + i, to_row);
        if (width % SIDE != 0)
          transpose_squares<T, SIDE>(1, from + i * from_row + last, from_row,
                                     to + last * to_row + i, to_row);
      }
    }
  }
}

// to[p][0:COLS] = from[p][0:COLS], with a row of PITCH >= COLS. All rows but the last are copied in
// whole vectors, whose surplus the next row overwrites; `to` has room for it.
template <typename T, int COLS, int PITCH>
[[gnu::noinline]] void copy_rows(const T* from, int64_t from_row, int64_t rows, T* to) {
  using In = Columns<T, COLS>;
  int64_t p = 0;
  if (In::PITCH <= from_row) {
    for (; p < rows - 1; ++p, from += from_row, to += PITCH)
      std::memcpy(to, from, In::PITCH * sizeof(T));
  }
  for (; p < rows; ++p, from += from_row, to += PITCH) std::memcpy(to, from, COLS * sizeof(T));
}

// Packs one tile or panel: `steps` steps of it, whose lines are `stride` apart in memory.
template <typename T>
using Pack = void (*)(const T* from, int64_t stride, int64_t steps, T* to);

template <typename T, int ROWS, int PITCH>
void pack_transposed(const T* from, int64_t from_row, int64_t cols, T* to) {
  transpose_matrix<T, square_side<T>(ROWS)>(ROWS, cols, from, from_row, to, PITCH);
}

// Lanes side by side in memory are copied, others transposed.
template <typename T, int LANES, int PITCH, bool NEIGHBOURS>
constexpr Pack<T> pack_for() {
  if constexpr (NEIGHBOURS)
    return &copy_rows<T, LANES, PITCH>;
  else
    return &pack_transposed<T, LANES, PITCH>;
}

// ---- Plans ------------------------------------------------------------------------------------

// How a product is cut, as data: the code that follows a plan is compiled once for all shapes.
// C is cut into a grid of tiles by panels. Tiles have `low` rows or one more; panels have `cols`
// columns but for the last. Kernels are chosen by [tile is high][panel is the last].
template <typename T, typename Kernel>
struct Plan {
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, c_row;
  int64_t batch, a_batch, b_batch, c_batch;
  int64_t tiles, low;
  int64_t panels, cols;
  int64_t k_parts, kc;
  int64_t pack_a_cost, pack_b_cost;  // of an element, in quarters of a vector multiply-add
  Kernel kernels[2][2];

  // Neither exceeds 32 bits, where division is faster.
  int64_t row(int64_t tile) const {
    return static_cast<uint64_t>(m * tile) >> 32 ? part_start(m, tiles, tile)
                                                 : uint32_t(m * tile) / uint32_t(tiles);
  }
  int64_t column(int64_t panel) const { return std::min(n, panel * cols); }
  bool is_last(int64_t panel) const { return panel == panels - 1; }
};

// The plan's shape, strides and grid; `kc` bounds a part of k.
template <class Shape, typename T, typename Kernel>
constexpr void set_grid(Plan<T, Kernel>& plan, int64_t tiles, int64_t cols, int64_t kc) {
  plan.m = Shape::M, plan.n = Shape::N, plan.k = Shape::K;
  plan.a_row = Shape::A_ROW, plan.a_col = Shape::A_COL;
  plan.b_row = Shape::B_ROW, plan.b_col = Shape::B_COL;
  plan.c_row = Shape::C_ROW;
  plan.batch = 1;
  if constexpr (requires { Shape::BATCH; }) {
    plan.batch = Shape::BATCH;
    plan.a_batch = Shape::A_BATCH, plan.b_batch = Shape::B_BATCH, plan.c_batch = Shape::C_BATCH;
  }
  plan.tiles = tiles;
  plan.low = Shape::M / tiles;
  plan.panels = ceil_div(Shape::N, cols);
  plan.cols = cols;
  plan.k_parts = ceil_div(Shape::K, kc);
  plan.kc = ceil_div(Shape::K, plan.k_parts);
}

constexpr int64_t PACK_COST = 2;  // measured: 0.4 to 0.6 of a vector multiply-add, from L2 or L3

// What is called when rows [i0, i1) and columns [j0, j1) of product `number` are complete.
struct Epilogue {
  const void* context;
  void (*call)(const void* context, int64_t number, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
};

template <typename F>
Epilogue epilogue_of(const F& f) {
  return {&f, [](const void* context, int64_t number, int64_t i0, int64_t i1, int64_t j0,
                 int64_t j1) { (*static_cast<const F*>(context))(number, i0, i1, j0, j1); }};
}

// Of an `f` that does not take the number. Nothing here depends on the shape of the product, so
// that products of several shapes share the code of an epilogue.
template <typename F>
Epilogue epilogue_of_one(const F& f) {
  return {&f, [](const void* context, int64_t, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
            (*static_cast<const F*>(context))(i0, i1, j0, j1);
          }};
}

// One product, a part of a batch.
template <typename T>
struct Operands {
  const T* a;
  const T* b;
  T* c;
  int64_t number;
  bool accumulate;
};

// ---- Products of tiles --------------------------------------------------------------------------

template <typename T>
struct TilePlan : Plan<T, void (*)(const Tile<T>&)> {
  bool a_direct, b_direct;            // read in place
  int64_t careful_steps;              // of the last panel of a B that is read in place
  int64_t b_pitch;                    // of the last panel of a packed B
  int64_t strip_tiles, group_panels;  // the blocks of C that are finished together
  int64_t slab_panels;                // the panels of B that are packed together
  int64_t pack_b_run;                 // steps packed at a time
  Pack<T> pack_a[2], pack_b[2];
};

// A and B are read in place if they are read seldom, or if the lines that a tile needs at a time
// do not meet in few sets of the cache. A step of a transposed A is one line or two.
template <class Shape, typename T>
constexpr bool reads_a_in_place(int64_t cols) {
  constexpr int64_t STRIDE = Shape::A_ROW == 1 ? Shape::A_COL : Shape::A_ROW;
  if (Shape::N <= cols || (Shape::A_ROW == 1 && Shape::N <= 160)) return true;
  return Shape::N <= 1024 && distinct_sets(STRIDE * sizeof(T)) >= 8;
}

template <class Shape, typename T>
constexpr bool reads_b_in_place() {
  return Shape::B_COL == 1 && (Shape::M <= 48 || (Shape::M <= 128 && Shape::N <= 1024 &&
                                                  distinct_sets(Shape::B_ROW * sizeof(T)) >= 32));
}

template <class Shape, typename T>
constexpr TilePlan<T> make_tile_plan() {
  constexpr int LANES = REGISTER_BYTES / sizeof(T), VECTORS = tile_vectors(Shape::M);
  constexpr int COLS = std::min<int64_t>(VECTORS * LANES, Shape::N);
  constexpr int HEIGHT = tile_rows(VECTORS);
  constexpr int64_t TILES = count_tiles(Shape::M, HEIGHT, HEIGHT * 3 / 4);
  constexpr int LOW = Shape::M / TILES, HIGH = ceil_div(Shape::M, TILES);
  constexpr int LAST = (Shape::N - 1) % COLS + 1;
  constexpr bool A_DIRECT = reads_a_in_place<Shape, T>(COLS), A_BY_COLUMNS = Shape::A_ROW == 1;
  constexpr bool NEIGHBOURS = A_BY_COLUMNS || !A_DIRECT;
  // A panel of B (kc x COLS) stays near; later parts of k add to C.
  constexpr int64_t MAX_KC = 512;
  TilePlan<T> plan{};
  set_grid<Shape>(plan, TILES, COLS, MAX_KC);
  plan.a_direct = A_DIRECT;
  plan.b_direct = reads_b_in_place<Shape, T>();
  plan.pack_a_cost = plan.a_direct ? 0 : PACK_COST;
  plan.pack_b_cost = plan.b_direct ? 0 : PACK_COST;
  // A vector of the last panel reads past its row; in the last rows, which may be the end of the
  // memory, it may not.
  plan.careful_steps = ceil_div(Columns<T, LAST>::PITCH - LAST, Shape::B_ROW);
  plan.b_pitch = Columns<T, LAST>::PITCH;
  // A strip of A and the block of C that the epilogue gets are parts of a 1 MiB L2, a packed slab
  // of B one of L3.
  plan.strip_tiles = std::clamp<int64_t>((192 << 10) / (plan.kc * HIGH * sizeof(T)), 1, 8);
  plan.group_panels =
      std::max<int64_t>((64 << 10) / (plan.strip_tiles * HIGH * COLS * sizeof(T)), 1);
  plan.slab_panels = std::max<int64_t>((2 << 20) / (plan.kc * COLS * sizeof(T)), 1);
  // Rows in memory are read a few at a time along their whole length, as hardware prefetches them.
  plan.pack_b_run = Shape::B_COL == 1 ? 4 : plan.kc;
  plan.kernels[0][0] = &micro_kernel<T, LOW, COLS, NEIGHBOURS>;
  plan.kernels[0][1] = &micro_kernel<T, LOW, LAST, NEIGHBOURS>;
  plan.kernels[1][0] = &micro_kernel<T, HIGH, COLS, NEIGHBOURS>;
  plan.kernels[1][1] = &micro_kernel<T, HIGH, LAST, NEIGHBOURS>;
  if constexpr (!A_DIRECT) {
    plan.pack_a[0] = pack_for<T, LOW, LOW, A_BY_COLUMNS>();
    plan.pack_a[1] = pack_for<T, HIGH, HIGH, A_BY_COLUMNS>();
  }
  if constexpr (!reads_b_in_place<Shape, T>()) {
    plan.pack_b[0] = pack_for<T, COLS, Columns<T, COLS>::PITCH, Shape::B_COL == 1>();
    plan.pack_b[1] = pack_for<T, LAST, Columns<T, LAST>::PITCH, Shape::B_COL == 1>();
  }
  return plan;
}

// Tiles of A, steps [p, p + k), packed one after another.
template <typename T>
T* pack_a(const TilePlan<T>& plan, const T* a, Range tiles, int64_t k) {
  T* const packed = scratch<T>(PACKED_A, plan.strip_tiles * (plan.low + 1) * plan.kc);
  T* to = packed;
  for (int64_t tile = tiles.first, i = plan.row(tile); tile < tiles.last; ++tile) {
    const int64_t next = plan.row(tile + 1);
    plan.pack_a[next - i > plan.low](a + i * plan.a_row, plan.a_row == 1 ? plan.a_col : plan.a_row,
                                     k, to);
    to += (next - i) * k;
    i = next;
  }
  return packed;
}

// Panels of B, k steps, packed one after another.
template <typename T>
T* pack_b(const TilePlan<T>& plan, const T* b, Range panels, int64_t k) {
  T* const packed = scratch<T>(PACKED_B, std::min(plan.slab_panels, plan.panels) * plan.kc *
                                             std::max(plan.cols, plan.b_pitch));
  const int64_t stride = plan.b_col == 1 ? plan.b_row : plan.b_col;
  for (int64_t p = 0; p < k; p += plan.pack_b_run) {
    const int64_t steps = std::min(plan.pack_b_run, k - p);
    for (int64_t panel = panels.first; panel < panels.last; ++panel) {
      const bool last = plan.is_last(panel);
      plan.pack_b[last](
          b + p * plan.b_row + panel * plan.cols * plan.b_col, stride, steps,
          packed + (panel - panels.first) * plan.cols * k + p * (last ? plan.b_pitch : plan.cols));
    }
  }
  return packed;
}

// One panel of columns for the tiles of a strip; x.a is the first of them, x.c the top of C.
template <typename T>
void multiply_panel(const TilePlan<T>& plan, Range tiles, int64_t panel, Tile<T> x) {
  T* const c = x.c;
  for (int64_t tile = tiles.first, i = plan.row(tile); tile < tiles.last; ++tile) {
    const int64_t next = plan.row(tile + 1), rows = next - i;
    if (!plan.a_direct) x.a_step = rows;
    x.c = c + i * x.c_row;
    plan.kernels[rows > plan.low][plan.is_last(panel)](x);
    x.a += rows * (plan.a_direct ? plan.a_row : x.k);
    i = next;
  }
}

// The rows of `tiles` and the columns of `panels` of one product.
template <typename T>
void multiply_slab(const TilePlan<T>& plan, const Operands<T>& of, const Epilogue& epilogue,
                   Range tiles, Range panels) {
  for (int64_t part = 0; part < plan.k_parts; ++part) {
    const int64_t p = part_start(plan.k, plan.k_parts, part);
    const bool last_part = part == plan.k_parts - 1;
    Tile<T> x{};
    x.k = part_start(plan.k, plan.k_parts, part + 1) - p;
    x.a_row = plan.a_direct ? plan.a_row : 1;
    x.a_step = plan.a_col;
    x.c_row = plan.c_row;
    x.accumulate = of.accumulate || part > 0;
    const T* b = of.b + p * plan.b_row;
    if (!plan.b_direct) b = pack_b(plan, b, panels, x.k);
    for (int64_t tile = tiles.first; tile < tiles.last; tile += plan.strip_tiles) {
      const Range strip{tile, std::min(tile + plan.strip_tiles, tiles.last)};
      const T* a = of.a + p * plan.a_col;
      x.a = plan.a_direct ? a + plan.row(tile) * plan.a_row : pack_a(plan, a, strip, x.k);
      for (int64_t group = panels.first; group < panels.last; group += plan.group_panels) {
        const int64_t end = std::min(group + plan.group_panels, panels.last);
        for (int64_t panel = group; panel < end; ++panel) {
          const bool last = plan.is_last(panel);
          x.c = of.c + panel * plan.cols;
          if (plan.b_direct) {
            x.b = b + panel * plan.cols;
            x.b_step = plan.b_row;
            x.careful_steps = last && last_part ? std::min(plan.careful_steps, x.k) : 0;
          } else {
            x.b = b + (panel - panels.first) * plan.cols * x.k;
            x.b_step = last ? plan.b_pitch : plan.cols;
          }
          multiply_panel(plan, strip, panel, x);
        }
        if (last_part)
          epilogue.call(epilogue.context, of.number, plan.row(strip.first), plan.row(strip.last),
                        plan.column(group), plan.column(end));
      }
    }
  }
}

// ---- Few columns of a transposed A
// ----------------------------------------------------------------

// The product C^T = B^T A^T. Its rows are the few columns of C, and its vectors lie along M, so
// that none is partly empty. The products of a batch share a buffer for C^T.
template <class Shape>
struct Swapped {
  static constexpr int64_t M = Shape::N, N = Shape::M, K = Shape::K;
  static constexpr int64_t A_ROW = Shape::B_COL, A_COL = Shape::B_ROW;
  static constexpr int64_t B_ROW = Shape::A_COL, B_COL = Shape::A_ROW;
  static constexpr int64_t C_ROW = N;
};
template <class Shape>
  requires requires { Shape::BATCH; }
struct Swapped<Shape> {
  static constexpr int64_t M = Shape::N, N = Shape::M, K = Shape::K, BATCH = Shape::BATCH;
  static constexpr int64_t A_ROW = Shape::B_COL, A_COL = Shape::B_ROW, A_BATCH = Shape::B_BATCH;
  static constexpr int64_t B_ROW = Shape::A_COL, B_COL = Shape::A_ROW, B_BATCH = Shape::A_BATCH;
  static constexpr int64_t C_ROW = N, C_BATCH = 0;
};

// Some rows and columns of C^T (N, M) to C.
template <class Shape, bool ACCUMULATE, typename T>
void transpose_back(const T* transposed, T* c, Range rows, Range columns) {
  if constexpr (ACCUMULATE) {
    for (int64_t i = columns.first; i < columns.last; ++i)
      for (int64_t j = rows.first; j < rows.last; ++j)
        c[i * Shape::C_ROW + j] += transposed[j * Shape::M + i];
  } else {
    transpose_matrix<T, square_side<T>(Shape::N)>(
        rows.last - rows.first, columns.last - columns.first,
        transposed + rows.first * Shape::M + columns.first, Shape::M,
        c + columns.first * Shape::C_ROW + rows.first, Shape::C_ROW);
  }
}

// ---- Long dot products --------------------------------------------------------------------------

// Row i of A starts at a + i * a_row, column j of B at b + j * b_col.
template <typename T>
struct DotTile {
  int64_t k;
  const T* a;
  int64_t a_row;
  const T* b;
  int64_t b_col;
  T* c;
  int64_t c_row;
  bool accumulate;
};

// Lane l of v[g] becomes the sum of the lanes of the former v[g * LANES + l].
template <int DISTANCE, typename V, int COUNT>
[[gnu::always_inline]] inline void sum_lanes(V (&v)[COUNT], int count) {
  constexpr int LANES = sizeof(V) / sizeof(v[0][0]);
  if constexpr (DISTANCE < LANES) {
#pragma GCC unroll 32
    for (int i = 0; i < count; i += 2) {
      const V odd = i + 1 < count ? v[i + 1] : V{};
      const auto [low, high] =
          swap_lanes<DISTANCE>(v[i], odd, std::make_integer_sequence<int, LANES>{});
      v[i / 2] = low + high;
    }
    sum_lanes<DISTANCE * 2>(v, (count + 1) / 2);
  }
}

template <typename T, int ROWS, int COLS>
[[gnu::noinline]] void dot_kernel(const DotTile<T>& x) {
  constexpr int LANES = REGISTER_BYTES / sizeof(T), COUNT = ROWS * COLS;
  using V = Vector<T, LANES>;
  using Mask = decltype(V{} < V{});
  V sum[COUNT] = {};
  const auto add_products = [&](int64_t p, auto&& load_at) __attribute__((always_inline)) {
    V column[COLS];
#pragma GCC unroll 8
    for (int j = 0; j < COLS; ++j) {
      column[j] = load_at(x.b + j * x.b_col + p);
      keep_in_register(column[j]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
      const V row = load_at(x.a + i * x.a_row + p);
#pragma GCC unroll 8
      for (int j = 0; j < COLS; ++j) sum[i * COLS + j] += row * column[j];
    }
  };
  const int64_t rest = x.k % LANES;
  for (int64_t p = 0; p < x.k - rest; p += LANES)
    add_products(p, [](const T* from) { return load<V>(from); });
  if (rest != 0) {  // the last LANES elements, without those already summed
    Mask fresh;
    for (int lane = 0; lane < LANES; ++lane) fresh[lane] = lane >= LANES - rest ? -1 : 0;
    add_products(x.k - LANES, [&](const T* from) {
      return std::bit_cast<V>(std::bit_cast<Mask>(load<V>(from)) & fresh);
    });
  }
  sum_lanes<1>(sum, COUNT);
  T total[ceil_div(COUNT, LANES) * LANES];
  for (int i = 0; i < ceil_div(COUNT, LANES); ++i) store(total + i * LANES, sum[i]);
  for (int i = 0; i < ROWS; ++i) {
    T* c = x.c + i * x.c_row;
    for (int j = 0; j < COLS; ++j)
      c[j] = x.accumulate ? c[j] + total[i * COLS + j] : total[i * COLS + j];
  }
}

// Tiles of dot products, for operands whose neighbours in memory are neighbours along k: nothing
// is packed, and vectors are full however few columns there are.
template <typename T>
struct DotPlan : Plan<T, void (*)(const DotTile<T>&)> {
  int64_t strip_tiles, slab_panels;
};

template <class Shape, typename T>
constexpr DotPlan<T> make_dot_plan() {
  // SIDE^2 sums, SIDE vectors of B and one of A.
  constexpr int SIDE = REGISTERS == 32 ? 5 : 3;
  constexpr int64_t TILES = ceil_div(Shape::M, SIDE);
  constexpr int LOW = Shape::M / TILES, HIGH = ceil_div(Shape::M, TILES);
  constexpr int COLS = ceil_div(Shape::N, ceil_div(Shape::N, SIDE));
  constexpr int LAST = (Shape::N - 1) % COLS + 1;
  // Few columns stay in L1 next to a tile of A; more of them come from L2 once a part.
  constexpr int64_t MAX_KC = Shape::N <= 14 ? 512 : 1024;
  DotPlan<T> plan{};
  set_grid<Shape>(plan, TILES, COLS, MAX_KC);
  plan.pack_b_cost = Shape::B_ROW == 1 ? 0 : PACK_COST;
  // The operand with more tiles is read once, the other stays near.
  plan.strip_tiles = plan.panels <= TILES ? 1 : TILES;
  plan.slab_panels = std::max<int64_t>((64 << 10) / (Shape::M * COLS * sizeof(T)), 1);
  plan.kernels[0][0] = &dot_kernel<T, LOW, COLS>;
  plan.kernels[0][1] = &dot_kernel<T, LOW, LAST>;
  plan.kernels[1][0] = &dot_kernel<T, HIGH, COLS>;
  plan.kernels[1][1] = &dot_kernel<T, HIGH, LAST>;
  return plan;
}

// packed[j][p] = b[p][j], so that the columns of a row-major B become operands of dot products.
template <typename T>
T* pack_columns(const DotPlan<T>& plan, const T* b, int64_t k) {
  T* packed = scratch<T>(PACKED_B, plan.n * plan.kc);
  transpose_matrix<T, square_side<T>(REGISTER_BYTES)>(k, plan.n, b, plan.b_row, packed, k);
  return packed;
}

template <typename T>
void multiply_slab(const DotPlan<T>& plan, const Operands<T>& of, const Epilogue& epilogue,
                   Range tiles, Range panels) {
  for (int64_t part = 0; part < plan.k_parts; ++part) {
    const int64_t p = part_start(plan.k, plan.k_parts, part);
    DotTile<T> x{};
    x.k = part_start(plan.k, plan.k_parts, part + 1) - p;
    x.a_row = plan.a_row;
    x.c_row = plan.c_row;
    x.accumulate = of.accumulate || part > 0;
    const bool by_columns = plan.b_row == 1;
    x.b_col = by_columns ? plan.b_col : x.k;
    const T* columns = of.b + p * plan.b_row;
    if (!by_columns) columns = pack_columns(plan, columns, x.k);
    for (int64_t strip = tiles.first; strip < tiles.last; strip += plan.strip_tiles) {
      const int64_t end = std::min(strip + plan.strip_tiles, tiles.last);
      for (int64_t panel = panels.first; panel < panels.last; ++panel) {
        x.b = columns + panel * plan.cols * x.b_col;
        for (int64_t tile = strip, i = plan.row(tile); tile < end; ++tile) {
          const int64_t next = plan.row(tile + 1);
          x.a = of.a + i * plan.a_row + p;
          x.c = of.c + i * plan.c_row + panel * plan.cols;
          plan.kernels[next - i > plan.low][plan.is_last(panel)](x);
          i = next;
        }
      }
    }
  }
  epilogue.call(epilogue.context, of.number, plan.row(tiles.first), plan.row(tiles.last),
                plan.column(panels.first), plan.column(panels.last));
}

// ---- Threads ----------------------------------------------------------------------------------

// How many parts the tiles of all batches and the panels are cut into.
struct Grid {
  int64_t rows, cols;
};

// Quarters of the vector multiply-adds of the largest part, and its packing, for each step of k.
template <typename T, typename Kernel>
int64_t part_cost(const Plan<T, Kernel>& plan, Grid grid) {
  constexpr int LANES = REGISTER_BYTES / sizeof(T);
  const int64_t tiles = ceil_div(plan.tiles * plan.batch, grid.rows);
  const int64_t rows = ceil_div(tiles * plan.m, plan.tiles);
  const int64_t cols = std::min(plan.n, ceil_div(plan.panels, grid.cols) * plan.cols);
  return 4 * rows * ceil_div(cols, LANES) + rows * plan.pack_a_cost +
         cols * plan.pack_b_cost * ceil_div(plan.batch, grid.rows);
}

template <typename T, typename Kernel>
Grid choose_grid(const Plan<T, Kernel>& plan, int64_t parts) {
  Grid best{1, 1};
  for (int64_t rows = parts; rows >= 1 && parts > 1; --rows) {
    const Grid grid{std::min(rows, plan.tiles * plan.batch), std::min(parts / rows, plan.panels)};
    if (part_cost(plan, grid) < part_cost(plan, best)) best = grid;
  }
  return best;
}

// Part `part` of `parts` of all products of a batch. Tiles of the batch are numbered through.
template <typename T, class SomePlan>
[[gnu::noinline]] void multiply_part(const SomePlan& plan, Operands<T> of, const Epilogue& epilogue,
                                     int64_t part, int64_t parts) {
  const Grid grid = choose_grid(plan, parts);
  if (part >= grid.rows * grid.cols) return;
  const int64_t row = part / grid.cols, col = part % grid.cols;
  const int64_t last = part_start(plan.tiles * plan.batch, grid.rows, row + 1);
  const Range panels{part_start(plan.panels, grid.cols, col),
                     part_start(plan.panels, grid.cols, col + 1)};
  const Operands<T> first = of;
  for (int64_t tile = part_start(plan.tiles * plan.batch, grid.rows, row); tile < last;) {
    of.number = tile / plan.tiles;
    of.a = first.a + of.number * plan.a_batch;
    of.b = first.b + of.number * plan.b_batch;
    of.c = first.c + of.number * plan.c_batch;
    const int64_t start = of.number * plan.tiles;
    const Range tiles{tile - start, std::min(last - start, plan.tiles)};
    for (int64_t panel = panels.first; panel < panels.last; panel += plan.slab_panels)
      multiply_slab(plan, of, epilogue, tiles,
                    {panel, std::min(panel + plan.slab_panels, panels.last)});
    tile = start + tiles.last;
  }
}

// ---- The way to multiply a shape ----------------------------------------------------------------

enum class Method { TILES, SWAPPED, DOTS };

template <class Shape>
constexpr Method choose_method() {
  constexpr bool FEW_COLUMNS = Shape::N <= 14;
  if (Shape::A_COL == 1 && Shape::K >= 256 &&
      (FEW_COLUMNS || (Shape::B_ROW == 1 && Shape::M <= 48)))
    return Method::DOTS;
  if (Shape::A_ROW == 1 && Shape::N > 1 && FEW_COLUMNS && Shape::M >= 64) return Method::SWAPPED;
  return Method::TILES;
}

template <class Shape, bool ACCUMULATE, typename T>
void multiply(const T* a, const T* b, T* c, const Epilogue& epilogue, int64_t part, int64_t parts) {
  constexpr Method METHOD = choose_method<Shape>();
  if constexpr (METHOD == Method::DOTS) {
    static constexpr DotPlan<T> PLAN = make_dot_plan<Shape, T>();
    multiply_part<T>(PLAN, {a, b, c, 0, ACCUMULATE}, epilogue, part, parts);
  } else if constexpr (METHOD == Method::SWAPPED) {
    static constexpr TilePlan<T> PLAN = make_tile_plan<Swapped<Shape>, T>();
    T* transposed = scratch<T>(TRANSPOSED_C, Shape::M * Shape::N);
    const auto finish = [&](int64_t number, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
      int64_t offset = 0;
      if constexpr (requires { Shape::BATCH; }) offset = number * Shape::C_BATCH;
      transpose_back<Shape, ACCUMULATE>(transposed, c + offset, {j0, j1}, {i0, i1});
      epilogue.call(epilogue.context, number, i0, i1, j0, j1);
    };
    multiply_part<T>(PLAN, {b, a, transposed, 0, false}, epilogue_of(finish), part, parts);
  } else {
    static constexpr TilePlan<T> PLAN = make_tile_plan<Shape, T>();
    multiply_part<T>(PLAN, {a, b, c, 0, ACCUMULATE}, epilogue, part, parts);
  }
}

template <class Shape>
int64_t useful_threads() {
  int64_t work = Shape::M * Shape::N * Shape::K;
  if constexpr (requires { Shape::BATCH; }) work *= Shape::BATCH;
  return std::clamp<int64_t>(work / MIN_WORK_PER_THREAD, 1, num_threads());
}

}  // namespace static_gemm_detail

constexpr auto no_epilogue = [](auto...) {};

// Part `part` of `parts` of C = A B, to be called by each thread of a parallel region. No part
// waits for another. epilogue(i0, i1, j0, j1): rows [i0, i1) and columns [j0, j1) are complete.
template <class Shape, bool ACCUMULATE = false, typename T, typename F>
void static_gemm_part(const T* a, const T* b, T* c, const F& epilogue, int64_t part,
                      int64_t parts) {
  using namespace static_gemm_detail;
  multiply<Shape, ACCUMULATE>(a, b, c, epilogue_of_one(epilogue), part, parts);
}

// C = A B on as many threads as are worth it.
template <class Shape, bool ACCUMULATE = false, typename T, typename F = decltype(no_epilogue)>
[[gnu::noinline]] void static_gemm(const T* a, const T* b, T* c, const F& epilogue = no_epilogue) {
  const int64_t parts = static_gemm_detail::useful_threads<Shape>();
  parallel_for(parts, [&](int64_t part) {
    static_gemm_part<Shape, ACCUMULATE>(a, b, c, epilogue, part, parts);
  });
}

// Part `part` of `parts` of Shape::BATCH products. epilogue(number, i0, i1, j0, j1): as above, in
// product `number`.
template <class Shape, bool ACCUMULATE = false, typename T, typename F>
void static_gemm_batched_part(const T* a, const T* b, T* c, const F& epilogue, int64_t part,
                              int64_t parts) {
  using namespace static_gemm_detail;
  multiply<Shape, ACCUMULATE>(a, b, c, epilogue_of(epilogue), part, parts);
}

template <class Shape, bool ACCUMULATE = false, typename T, typename F = decltype(no_epilogue)>
[[gnu::noinline]] void static_gemm_batched(const T* a, const T* b, T* c,
                                           const F& epilogue = no_epilogue) {
  const int64_t parts = static_gemm_detail::useful_threads<Shape>();
  parallel_for(parts, [&](int64_t part) {
    static_gemm_batched_part<Shape, ACCUMULATE>(a, b, c, epilogue, part, parts);
  });
}

}  // namespace needle::NEEDLE_ISA
