// gemm16/pack.h: packs operands of bfloat16 products into tiles of pairs.
//
// Contract: a tile has 16 lanes (rows of A or columns of B) and 32 steps of k, as 16 x 16 pairs of
// consecutive steps. A's tiles are by lane, [lane][pair]; B's are by pair, [pair][lane]: this is
// the order in which AMX and AVX-512 BF16 read them (Intel SDM, TDPBF16PS and VDPBF16PS). A panel
// has 32 lanes: for each block of 32 steps the tile of the first 16 lanes, then that of the others.
// Lanes and steps past the end of the operand are zeros. float32 elements are rounded to the
// nearest bfloat16 as they are packed, which gives what a stored conversion would give.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../../view.h"
#include "../functions.h"
#include "../vectors.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace needle::NEEDLE_ISA {

namespace gemm16_detail {

constexpr int LANES = 16, PAIRS = 16, STEPS = 2 * PAIRS, TILE = LANES * PAIRS;
constexpr int PANEL_LANES = 2 * LANES, PANEL_TILES = 2;

// `lanes` x `steps` elements, of which at most one tile's are read at a time.
template <typename T>
struct Source {
  const T* data;
  int64_t lane, step;  // strides

  const T* at(int64_t i, int64_t p) const { return data + i * lane + p * step; }
};

inline uint32_t bits_of(bfloat16 x) { return static_cast<uint16_t>(x); }
inline uint32_t bits_of(float x) { return static_cast<uint16_t>(narrow<bfloat16>(x)); }

// to[i] = the bits of from[2 i] and, above them, of from[2 i + 1]
inline void pack_row(const bfloat16* from, uint32_t* to) {
  std::memcpy(to, from, STEPS * sizeof(bfloat16));
}

// to[i] = the bits of low[i] and, above them, of high[i]
inline void pack_rows(const bfloat16* low, const bfloat16* high, uint32_t* to) {
  for (int i = 0; i < LANES; ++i) to[i] = bits_of(low[i]) | bits_of(high[i]) << 16;
}

#if defined(__AVX512BF16__)
inline void pack_row(const float* from, uint32_t* to) {
  const __m512bh row = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from));
  std::memcpy(to, &row, sizeof(row));
}

inline void pack_rows(const float* low, const float* high, uint32_t* to) {
  using Shorts = vectors::Vector<uint16_t, 64>;
  constexpr Shorts ALTERNATE = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512bh rows = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(high), _mm512_loadu_ps(low));
  vectors::store(to, __builtin_shuffle(std::bit_cast<Shorts>(rows), ALTERNATE));
}
#else
inline void pack_row(const float* from, uint32_t* to) {
  for (int i = 0; i < PAIRS; ++i) to[i] = bits_of(from[2 * i]) | bits_of(from[2 * i + 1]) << 16;
}

inline void pack_rows(const float* low, const float* high, uint32_t* to) {
  for (int i = 0; i < LANES; ++i) to[i] = bits_of(low[i]) | bits_of(high[i]) << 16;
}
#endif

inline void transpose_tile(const uint32_t* from, uint32_t* to) {
#if defined(__AVX512F__)
  using V = vectors::Vector<uint32_t, 64>;
  V square[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) square[i] = vectors::load<V>(from + i * PAIRS);
  vectors::transpose(square);
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) vectors::store(to + i * LANES, square[i]);
#else
  for (int i = 0; i < LANES; ++i)
    for (int j = 0; j < PAIRS; ++j) to[j * LANES + i] = from[i * PAIRS + j];
#endif
}

// Lanes whose steps are adjacent in memory, as [lane][pair].
template <typename T>
void read_lanes(const Source<T>& from, int lanes, int steps, uint32_t* to) {
  for (int i = 0; i < lanes; ++i) {
    if (steps == STEPS) {
      pack_row(from.at(i, 0), to + i * PAIRS);
    } else {
      T row[STEPS] = {};
      std::copy_n(from.at(i, 0), steps, row);
      pack_row(row, to + i * PAIRS);
    }
  }
  std::fill_n(to + lanes * PAIRS, (LANES - lanes) * PAIRS, 0u);
}

// Steps whose lanes are adjacent in memory, as [pair][lane].
template <typename T>
void read_steps(const Source<T>& from, int lanes, int steps, uint32_t* to) {
  T rows[2][LANES] = {};
  for (int p = 0; p < STEPS; p += 2, to += LANES) {
    const int count = std::clamp(steps - p, 0, 2);
    if (count == 2 && lanes == LANES) {
      pack_rows(from.at(0, p), from.at(0, p + 1), to);
      continue;
    }
    for (int i = 0; i < 2; ++i) {
      if (i < count)
        std::copy_n(from.at(0, p + i), lanes, rows[i]);
      else
        std::fill_n(rows[i], LANES, T{});
    }
    pack_rows(rows[0], rows[1], to);
  }
}

template <typename T>
void gather_lanes(const Source<T>& from, int lanes, int steps, uint32_t* to) {
  std::fill_n(to, TILE, 0u);
  for (int i = 0; i < lanes; ++i)
    for (int p = 0; p < steps; ++p)
      to[i * PAIRS + p / 2] |= bits_of(*from.at(i, p)) << (p % 2 * 16);
}

// Packs one tile; BY_LANE is A's order, otherwise B's.
template <bool BY_LANE, typename T>
[[gnu::noinline]] void pack_tile(const Source<T>& from, int lanes, int steps, uint32_t* to) {
  const bool by_steps = from.lane == 1 && from.step != 1;
  alignas(64) uint32_t turned[TILE];
  uint32_t* const read = by_steps != BY_LANE ? to : turned;
  if (by_steps)
    read_steps(from, lanes, steps, read);
  else if (from.step == 1)
    read_lanes(from, lanes, steps, read);
  else
    gather_lanes(from, lanes, steps, read);
  if (read == turned) transpose_tile(turned, to);
}

// Packs the panels of `lanes` lanes over `steps` steps of k. Each takes `panel` pairs in `to`. A
// few steps are read along all lanes, the pattern that hardware prefetchers detect.
template <bool BY_LANE, typename T>
void pack_panels(const Source<T>& from, int64_t lanes, int64_t steps, uint32_t* to, int64_t panel) {
  const auto pack = [&](int64_t i, int64_t p) {
    uint32_t* const at = to + i / PANEL_LANES * panel + p / STEPS * PANEL_TILES * TILE +
                         i % PANEL_LANES / LANES * TILE;
    pack_tile<BY_LANE, T>({from.at(i, p), from.lane, from.step},
                          std::min<int64_t>(lanes - i, LANES), std::min<int64_t>(steps - p, STEPS),
                          at);
  };
  if (from.step == 1) {
    for (int64_t i = 0; i < lanes; i += LANES)
      for (int64_t p = 0; p < steps; p += STEPS) pack(i, p);
  } else {
    for (int64_t p = 0; p < steps; p += STEPS)
      for (int64_t i = 0; i < lanes; i += LANES) pack(i, p);
  }
}

}  // namespace gemm16_detail

}  // namespace needle::NEEDLE_ISA
