// gemm16.h: C = A B + bias of bfloat16 operands, summed in float32.
//
// Contract: as in gemm.h. Each of A, B, the bias and C is bfloat16 or float32. float32 elements of
// A and B are rounded to bfloat16 before they are multiplied; C is rounded once.
//
// Idea: both operands are packed into panels of 32 lanes (gemm16/pack.h), and a micro-kernel
// multiplies a panel of A by one of B to 32 x 32 sums (gemm16/tiles.h). A block of B stays in L2
// while A's panels pass. Sums of several blocks of k wait in float32, in the order of the tiles.
//
// Bound: 1,024 multiply-adds for each cycle of a core with AMX, 32 with AVX-512 BF16; with AMX,
// packing and the sums' way to C. Measured in benchmarks/sixteen_bits.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "../threads.h"
#include "../view.h"
#include "functions.h"
#include "gemm/scratch.h"
#include "gemm/sizes.h"
#include "gemm16/pack.h"
#include "gemm16/tiles.h"

namespace needle::NEEDLE_ISA {

namespace gemm16_detail {

using gemm_detail::ceil_div, gemm_detail::part_start, gemm_detail::scratch;

// Calls f with a typed pointer. Throws for other dtypes than the two that products take.
template <typename F>
void with_type(const char* data, DType dtype, F&& f) {
  if (dtype == DType::Float32) return f(reinterpret_cast<const float*>(data));
  if (dtype == DType::BFloat16) return f(reinterpret_cast<const bfloat16*>(data));
  refuse_dtype();
}

struct Operand {
  char* data;
  DType dtype;
  int64_t row, col;

  Operand at(int64_t i, int64_t j) const {
    return {data + (i * row + j * col) * item_size(dtype), dtype, row, col};
  }
};

struct Product {
  int64_t m, n, k;
  Operand a, b, c;
  const float* bias;  // null or n consecutive elements

  Product part(int64_t i, int64_t rows, int64_t j, int64_t cols) const {
    return {rows, cols, k, a.at(i, 0), b.at(0, j), c.at(i, j), bias ? bias + j : nullptr};
  }
};

// Steps of k of a panel of B, which stays in L1; columns of a block of B, which stays in L2; rows
// of A and columns of C for which sums wait.
constexpr int64_t MAX_K = 512, BLOCK_COLS = 512, MAX_ROWS = 2048, WAITING_COLS = 4096;
constexpr int64_t MIN_WORK_PER_THREAD = 1 << 22;

inline void store_row(const float* sum, const float* bias, int64_t cols, float* to) {
  for (int64_t j = 0; j < cols; ++j) to[j] = bias ? sum[j] + bias[j] : sum[j];
}

inline void store_row(const float* sum, const float* bias, int64_t cols, bfloat16* to) {
#if defined(__AVX512BF16__)
  for (int64_t j = 0; j < cols; j += LANES) {
    const auto mask = static_cast<__mmask16>(cols - j < LANES ? (1 << (cols - j)) - 1 : 0xffff);
    __m512 v = _mm512_maskz_loadu_ps(mask, sum + j);
    if (bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, bias + j));
    const __m256bh rounded = _mm512_cvtneps_pbh(v);
    _mm256_mask_storeu_epi16(to + j, mask, std::bit_cast<__m256i>(rounded));
  }
#else
  for (int64_t j = 0; j < cols; ++j) to[j] = narrow<bfloat16>(bias ? sum[j] + bias[j] : sum[j]);
#endif
}

// Writes the sums of a tile to C.
inline void store_sums(const float* sum, const Product& tile) {
  with_type(tile.c.data, tile.c.dtype, [&]<typename T>(const T* c) {
    T* to = const_cast<T*>(c);
    for (int64_t i = 0; i < tile.m; ++i, to += tile.c.row, sum += SIDE)
      store_row(sum, tile.bias, tile.n, to);
  });
}

template <bool BY_LANE>
void pack(const Operand& x, int64_t lanes, int64_t steps, uint32_t* to, int64_t panel) {
  with_type(x.data, x.dtype, [&]<typename T>(const T* data) {
    const Source<T> from = BY_LANE ? Source<T>{data, x.row, x.col} : Source<T>{data, x.col, x.row};
    pack_panels<BY_LANE, T>(from, lanes, steps, to, panel);
  });
}

// A product of at most MAX_ROWS rows, and where k has several parts of at most WAITING_COLS
// columns.
template <typename Tiles>
void multiply_rows(const Product& x) {
  const int64_t parts = ceil_div(x.k, MAX_K), steps = ceil_div(ceil_div(x.k, parts), STEPS) * STEPS;
  const int64_t panel = steps / STEPS * BLOCK;
  const int64_t a_panels = ceil_div(x.m, SIDE), b_panels = ceil_div(x.n, SIDE);
  uint32_t* const a = scratch<uint32_t>(gemm_detail::PACKED_A, a_panels * panel);
  uint32_t* const b =
      scratch<uint32_t>(gemm_detail::PACKED_B, std::min(b_panels, BLOCK_COLS / SIDE) * panel);
  constexpr int64_t SUMS = SIDE * SIDE;
  float* const waiting =
      scratch<float>(gemm_detail::PARTIAL_SUMS, parts > 1 ? a_panels * b_panels * SUMS : SUMS);
  const Tiles tiles;
  for (int64_t p = 0; p < x.k; p += steps) {
    const int64_t count = std::min(steps, x.k - p);
    pack<true>(x.a.at(0, p), x.m, count, a, panel);
    for (int64_t first = 0; first < x.n; first += BLOCK_COLS) {
      const int64_t cols = std::min(BLOCK_COLS, x.n - first);
      pack<false>(x.b.at(p, first), cols, count, b, panel);
      for (int64_t j = first; j < first + cols; j += SIDE) {
        for (int64_t i = 0; i < x.m; i += SIDE) {
          const Product tile =
              x.part(i, std::min<int64_t>(SIDE, x.m - i), j, std::min<int64_t>(SIDE, x.n - j));
          float* const sum = waiting + (parts > 1 ? (j / SIDE * a_panels + i / SIDE) * SUMS : 0);
          tiles.multiply(a + i / SIDE * panel, b + (j - first) / SIDE * panel,
                         ceil_div(count, STEPS), tile.m, tile.n, p > 0, sum);
          if (p + count == x.k) store_sums(sum, tile);
        }
      }
    }
  }
}

template <typename Tiles>
void multiply(const Product& x) {
  const int64_t most = x.k > MAX_K ? WAITING_COLS : x.n;
  for (int64_t i = 0; i < x.m; i += MAX_ROWS)
    for (int64_t j = 0; j < x.n; j += most)
      multiply_rows<Tiles>(x.part(i, std::min(MAX_ROWS, x.m - i), j, std::min(most, x.n - j)));
}

// How many parts m and n are split into: the largest part is smallest, then its packing.
struct Grid {
  int64_t m, n;
};

inline Grid choose_grid(int64_t m, int64_t n, int64_t threads) {
  const int64_t rows = ceil_div(m, SIDE), cols = ceil_div(n, SIDE);
  Grid best{1, 1};
  const auto cost = [&](const Grid& g) {
    const int64_t height = ceil_div(rows, g.m), width = ceil_div(cols, g.n);
    return height * width * 4 + height + width;
  };
  for (int64_t parts = 1; parts <= threads; ++parts) {
    const Grid grid{parts, threads / parts};
    if (cost(grid) < cost(best)) best = grid;
  }
  return best;
}

template <typename Tiles>
void multiply_on_threads(const Product& x) {
  const int64_t work = x.m * x.n * x.k / MIN_WORK_PER_THREAD;
  const Grid grid = choose_grid(x.m, x.n, std::clamp<int64_t>(work, 1, num_threads()));
  const auto start = [](int64_t total, int64_t parts, int64_t i) {
    return std::min(total, part_start(ceil_div(total, SIDE), parts, i) * SIDE);
  };
  const auto part = [&](int64_t task) {
    const int64_t row = task / grid.n, col = task % grid.n;
    const int64_t i = start(x.m, grid.m, row), j = start(x.n, grid.n, col);
    multiply<Tiles>(x.part(i, start(x.m, grid.m, row + 1) - i, j, start(x.n, grid.n, col + 1) - j));
  };
  if (grid.m * grid.n == 1) return multiply<Tiles>(x);
  parallel_for(grid.m * grid.n, part);
}

}  // namespace gemm16_detail

// One product; `bias` has `x.n` elements, `bias_stride` apart.
template <typename Tiles>
void gemm16(gemm16_detail::Product x, const View* bias) {
  using namespace gemm16_detail;
  if (x.m == 0 || x.n == 0) return;
  if (bias) {
    float* const copy = scratch<float>(gemm_detail::BIAS, x.n);
    with_type(bias->data, bias->dtype, [&]<typename T>(const T* from) {
      for (int64_t j = 0; j < x.n; ++j) {
        if constexpr (std::is_same_v<T, float>)
          copy[j] = from[j * bias->strides[0]];
        else
          copy[j] = widen(from[j * bias->strides[0]]);
      }
    });
    x.bias = copy;
  }
  if (x.k > 0) return multiply_on_threads<Tiles>(x);
  const std::vector<float> zeros(x.n);
  for (int64_t i = 0; i < x.m; ++i)
    with_type(x.c.data, x.c.dtype, [&]<typename T>(const T* c) {
      store_row(zeros.data(), x.bias, x.n, const_cast<T*>(c) + i * x.c.row);
    });
}

// a (…, m, k) @ b (…, k, n) -> out (…, m, n), a compact array; bias (n,) or null. Each is of
// bfloat16 or float32.
template <typename Tiles>
void matmul16(const View& a, const View& b, const View& out, const View* bias) {
  using gemm16_detail::Operand;
  const int d = out.ndim;
  const int64_t m = out.shape[d - 2], n = out.shape[d - 1], k = a.shape[d - 1];
  int64_t batch = 1;
  for (int axis = 0; axis < d - 2; ++axis) batch *= out.shape[axis];
  const auto operand = [&](const View& x, int64_t number) {
    int64_t offset = 0;
    for (int axis = d - 3; axis >= 0; --axis) {
      offset += number % out.shape[axis] * x.strides[axis];
      number /= out.shape[axis];
    }
    return Operand{x.data + offset * item_size(x.dtype), x.dtype, x.strides[d - 2],
                   x.strides[d - 1]};
  };
  const auto product = [&](int64_t i) {
    const Operand c{out.data + i * m * n * item_size(out.dtype), out.dtype, n, 1};
    gemm16<Tiles>({m, n, k, operand(a, i), operand(b, i), c, nullptr}, bias);
  };
  // Small products run in parallel; a large product uses all threads by itself.
  if (batch > 1 && m * n * k < 16 * gemm16_detail::MIN_WORK_PER_THREAD) {
    parallel_range(batch, m * n * k / 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) product(i);
    });
  } else {
    for (int64_t i = 0; i < batch; ++i) product(i);
  }
}

}  // namespace needle::NEEDLE_ISA
