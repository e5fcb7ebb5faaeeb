// gemm16/tiles.h: the micro-kernels of bfloat16 products.
//
// Contract: `multiply(a, b, blocks, rows, cols, add, sum)` multiplies a packed panel of A by one of
// B, over `blocks` blocks of 32 steps of k. `sum` is 32 x 32 in row-major order. It is overwritten,
// or added to where `add`; its rows from `rows` on and its columns from `cols` on are not defined.
// A thread that multiplies holds an object of the class meanwhile.
//
// All micro-kernels read the same panels. AMX and AVX-512 BF16 flush subnormal numbers to zero and
// round after each of the two products of a pair (Intel SDM); `PortableTiles` keeps subnormals.
#pragma once

#include <bit>
#include <cstdint>

#include "../../simd.h"
#include "../vectors.h"
#include "pack.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace needle::NEEDLE_ISA {

namespace gemm16_detail {

constexpr int SIDE = PANEL_LANES, BLOCK = PANEL_TILES * TILE;

// Float32 arithmetic on the halves of each pair, for processors without such instructions.
struct PortableTiles {
  static constexpr int ROWS = 4, VECTOR_LANES = REGISTER_BYTES / sizeof(float),
                       VECTORS = LANES / VECTOR_LANES;
  using Bits = vectors::Vector<uint32_t, REGISTER_BYTES>;
  using Floats = vectors::Vector<float, REGISTER_BYTES>;

  void multiply(const uint32_t* a, const uint32_t* b, int64_t blocks, int64_t rows, int64_t cols,
                bool add, float* sum) const {
    for (int64_t j = 0; j < cols; j += LANES)
      for (int64_t i = 0; i < rows; i += ROWS)
        multiply_rows(a + i / LANES * TILE + i % LANES * PAIRS, b + j / LANES * TILE, blocks, add,
                      sum + i * SIDE + j);
  }

 private:
  static void multiply_rows(const uint32_t* a, const uint32_t* b, int64_t blocks, bool add,
                            float* sum) {
    Floats total[ROWS][VECTORS] = {};
    if (add) each([&](int i, int j) { total[i][j] = vectors::load<Floats>(at(sum, i, j)); });
    for (; blocks > 0; --blocks, a += BLOCK, b += BLOCK) {
      for (int q = 0; q < PAIRS; ++q) {
        Floats low[VECTORS], high[VECTORS];
        for (int j = 0; j < VECTORS; ++j) {
          const Bits pairs = vectors::load<Bits>(b + q * LANES + j * VECTOR_LANES);
          low[j] = std::bit_cast<Floats>(pairs << 16);
          high[j] = std::bit_cast<Floats>(pairs & 0xffff0000u);
        }
        each([&](int i, int j) __attribute__((always_inline)) {
          const uint32_t pair = a[i * PAIRS + q];
          total[i][j] += std::bit_cast<float>(pair & 0xffff0000u) * high[j];
          total[i][j] += std::bit_cast<float>(pair << 16) * low[j];
        });
      }
    }
    each([&](int i, int j) { vectors::store(at(sum, i, j), total[i][j]); });
  }

  static float* at(float* sum, int i, int j) { return sum + i * SIDE + j * VECTOR_LANES; }

  [[gnu::always_inline]] static void each(auto&& f) {
#pragma GCC unroll 4
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < VECTORS; ++j) f(i, j);
  }
};

#if defined(__AVX512BF16__)
struct DotTiles {
  static constexpr int ROWS = 8;

  void multiply(const uint32_t* a, const uint32_t* b, int64_t blocks, int64_t rows, int64_t cols,
                bool add, float* sum) const {
    for (int64_t i = 0; i < rows; i += ROWS) {
      const uint32_t* const from = a + i / LANES * TILE + i % LANES * PAIRS;
      if (cols > LANES)
        multiply_rows<2>(from, b, blocks, add, sum + i * SIDE);
      else
        multiply_rows<1>(from, b, blocks, add, sum + i * SIDE);
    }
  }

 private:
  template <int TILES>
  static void multiply_rows(const uint32_t* a, const uint32_t* b, int64_t blocks, bool add,
                            float* sum) {
    __m512 total[ROWS][TILES];
    each<TILES>([&](int i, int j) __attribute__((always_inline)) {
      total[i][j] = add ? _mm512_loadu_ps(sum + i * SIDE + j * LANES) : _mm512_setzero_ps();
    });
    for (; blocks > 0; --blocks, a += BLOCK, b += BLOCK) {
      for (int q = 0; q < PAIRS; ++q) {
        __m512i pairs[TILES];
        for (int j = 0; j < TILES; ++j) pairs[j] = _mm512_loadu_si512(b + j * TILE + q * LANES);
        each<TILES>([&](int i, int j) __attribute__((always_inline)) {
          const __m512i pair = _mm512_set1_epi32(static_cast<int>(a[i * PAIRS + q]));
          total[i][j] = _mm512_dpbf16_ps(total[i][j], std::bit_cast<__m512bh>(pair),
                                         std::bit_cast<__m512bh>(pairs[j]));
        });
      }
    }
    each<TILES>([&](int i, int j) __attribute__((always_inline)) {
      _mm512_storeu_ps(sum + i * SIDE + j * LANES, total[i][j]);
    });
  }

  template <int TILES>
  [[gnu::always_inline]] static void each(auto&& f) {
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < TILES; ++j) f(i, j);
  }
};
#endif

#if defined(__AMX_BF16__)
// Tile registers 0 to 3 hold the sums, 4 and 5 tiles of A, 6 and 7 tiles of B. A 2 x 2 block of
// sums needs one load for each product.
class AmxTiles {
 public:
  AmxTiles() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shapes;
    for (int tile = 0; tile < 8; ++tile) shapes.row_bytes[tile] = 64, shapes.rows[tile] = 16;
    _tile_loadconfig(&shapes);
  }
  ~AmxTiles() { _tile_release(); }
  AmxTiles(const AmxTiles&) = delete;

  void multiply(const uint32_t* a, const uint32_t* b, int64_t blocks, int64_t rows, int64_t cols,
                bool add, float* sum) const {
    if (rows > LANES)
      cols > LANES ? run<2, 2>(a, b, blocks, add, sum) : run<2, 1>(a, b, blocks, add, sum);
    else
      cols > LANES ? run<1, 2>(a, b, blocks, add, sum) : run<1, 1>(a, b, blocks, add, sum);
  }

 private:
  static constexpr int64_t ROW_BYTES = 64, SUM_BYTES = SIDE * sizeof(float);

  template <int A, int B>
  static void run(const uint32_t* a, const uint32_t* b, int64_t blocks, bool add, float* sum) {
    asm volatile("" ::: "memory");  // the compiler does not know that loads of tiles read memory
    if (add) {
      _tile_loadd(0, sum, SUM_BYTES);
      if constexpr (B > 1) _tile_loadd(1, sum + LANES, SUM_BYTES);
      if constexpr (A > 1) _tile_loadd(2, sum + LANES * SIDE, SUM_BYTES);
      if constexpr (A > 1 && B > 1) _tile_loadd(3, sum + LANES * SIDE + LANES, SUM_BYTES);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (; blocks > 0; --blocks, a += BLOCK, b += BLOCK) {
      _tile_loadd(4, a, ROW_BYTES);
      _tile_loadd(6, b, ROW_BYTES);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (B > 1) _tile_loadd(7, b + TILE, ROW_BYTES);
      if constexpr (B > 1) _tile_dpbf16ps(1, 4, 7);
      if constexpr (A > 1) _tile_loadd(5, a + TILE, ROW_BYTES);
      if constexpr (A > 1) _tile_dpbf16ps(2, 5, 6);
      if constexpr (A > 1 && B > 1) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sum, SUM_BYTES);
    if constexpr (B > 1) _tile_stored(1, sum + LANES, SUM_BYTES);
    if constexpr (A > 1) _tile_stored(2, sum + LANES * SIDE, SUM_BYTES);
    if constexpr (A > 1 && B > 1) _tile_stored(3, sum + LANES * SIDE + LANES, SUM_BYTES);
    asm volatile("" ::: "memory");
  }
};
#endif

}  // namespace gemm16_detail

}  // namespace needle::NEEDLE_ISA
