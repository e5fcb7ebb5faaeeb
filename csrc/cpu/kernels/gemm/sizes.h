// sizes.h: how matrix products are partitioned, to fit registers and caches and to share the work
// among threads.
//
// Everything here is arithmetic on sizes. gemm.h uses it at run time, static_gemm.h at compile
// time.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "../../simd.h"
#include "../../threads.h"

namespace needle::NEEDLE_ISA {

namespace gemm_detail {

// ---- Parts of a total -------------------------------------------------------------------------

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The start of part `i` when `total` is split into `parts` almost equal parts.
constexpr int64_t part_start(int64_t total, int64_t parts, int64_t i) { return total * i / parts; }

struct Range {
  int64_t first, last;
};

// The number of threads for `work` multiply-adds if each thread is to do at least `least` of them.
inline int64_t threads_for(int64_t work, int64_t least) {
  return std::clamp<int64_t>(work / least, 1, num_threads());
}

// ---- Registers --------------------------------------------------------------------------------

// The accumulators of a tile of C share the registers with a row of B and one element of A.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

// The narrowest vector, for tiles at the right edge.
constexpr int MIN_VECTOR_BYTES = 16;

// The greatest number of rows of a tile with `vectors` vectors in each row.
constexpr int tile_rows(int vectors) { return std::min(14, (REGISTERS - 1 - vectors) / vectors); }

// How a row of COLS elements is split into vectors: full vectors, then one that is as narrow as the
// remaining columns allow.
template <typename T, int COLS>
struct Columns {
  static constexpr int LANES = REGISTER_BYTES / sizeof(T);
  static constexpr int FULL = COLS / LANES, REST = COLS % LANES;
  static constexpr int EDGE_LANES =
      REST == 0 ? 0 : std::max<int>(MIN_VECTOR_BYTES / sizeof(T), std::bit_ceil(unsigned(REST)));
  static constexpr int PITCH = FULL * LANES + EDGE_LANES;  // elements that a step reads
};

// ---- Caches -----------------------------------------------------------------------------------

constexpr int CACHE_LINE = 64;

// With at most this many columns, the vectors along a row of C are mostly empty.
constexpr int64_t FEW_COLUMNS = 14;

// The number of sets, in a cache of 64 sets, onto which rows `stride` bytes apart are mapped. If it
// is small, the rows evict each other (conflict misses).
constexpr int64_t distinct_sets(int64_t stride) {
  if (stride % CACHE_LINE != 0) return 64;
  int64_t lines = stride / CACHE_LINE, sets = 64;
  for (; lines % 2 == 0 && sets > 1; lines /= 2) sets /= 2;
  return sets;
}

// Whether A is read in place rather than packed, for `n` columns of C in panels of `cols` columns.
// That pays if A is read only once or a few times, or if the rows of a tile are mapped to different
// cache sets; a step of a transposed A is only one cache line or two. `stride` (in bytes) is the
// distance between rows, or between columns if A is stored `by_columns`.
constexpr bool reads_a_in_place(int64_t n, int64_t cols, bool by_columns, int64_t stride) {
  if (n <= cols || (by_columns && n <= 160)) return true;
  return !by_columns && n <= 1024 && distinct_sets(stride) >= 8;
}

// Whether C^T = B^T A^T is computed instead of C (m, n). The few columns of C become the rows of
// C^T. The vectors then lie along m, so that all of them are full.
constexpr bool is_swapped(int64_t m, int64_t n, bool a_by_columns) {
  return a_by_columns && n > 1 && n <= FEW_COLUMNS && m >= 64;
}

// Whether a row-major B with rows `stride` bytes apart is read in place, for C (m, n).
constexpr bool reads_b_in_place(int64_t m, int64_t n, int64_t k, int64_t stride) {
  const int64_t sets = distinct_sets(stride);
  return m <= 48 || (m <= 128 && n <= 1024 && (sets >= 32 || k <= 8 * sets));
}

}  // namespace gemm_detail

}  // namespace needle::NEEDLE_ISA
