// sums.h: long sums whose error does not grow with their length.
//
// Contract: with unit roundoff u, a sum of n numbers is within 200·u·Σ|x| of the exact sum, and
// also within n·u·Σ|x|, if n < 128/u (a billion floats). Infinities and NaNs propagate as in a
// plain sum.
//
// Idea: numbers are added without compensation in blocks, at most 170 one after the other. The sums
// of the blocks are added by compensated summation (W. Kahan, "Further remarks on reducing
// truncation errors", 1965), whose error is 2·u + O(n·u²) for n blocks. A block is long enough that
// the cost of the compensation is negligible.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace needle::NEEDLE_ISA {

constexpr int64_t ROWS_AT_ONCE = 8;  // rows of a column sum that are added as a binary tree
constexpr int64_t ROWS_OF_BLOCK = 16 * ROWS_AT_ONCE;
constexpr int64_t COLUMNS_AT_ONCE = 512;  // their accumulators stay in L1

// sum += x with compensation. `lost` is the rounding error that earlier additions have added to
// `sum`. V is a number or a vector.
template <typename V>
[[gnu::always_inline]] inline void add_compensated(V& sum, V& lost, V x) {
  const V rest = x - lost, next = sum + rest, error = (next - sum) - rest;
  sum = next;
  lost = error - error == V{} ? error : V{};  // no error if the sum is infinite
}

// Combines x(0) … x(ROWS_AT_ONCE - 1) as a binary tree.
template <typename Combine, typename Term>
[[gnu::always_inline]] inline auto tree(const Combine& two, const Term& x) {
  static_assert(ROWS_AT_ONCE == 8);
  return two(two(two(x(0), x(1)), two(x(2), x(3))), two(two(x(4), x(5)), two(x(6), x(7))));
}

// sums[k][j] = the sum over the rows i of terms k(i, j), for the columns j in [begin, end).
template <typename T, typename... Terms>
void sum_columns(int64_t rows, int64_t begin, int64_t end, T* const (&sums)[sizeof...(Terms)],
                 const Terms&... terms) {
  constexpr int COUNT = sizeof...(Terms);
  T block[COUNT][COLUMNS_AT_ONCE], lost[COUNT][COLUMNS_AT_ONCE];
  for (int64_t first = begin; first < end; first += COLUMNS_AT_ONCE) {
    const int64_t width = std::min(COLUMNS_AT_ONCE, end - first);
    for (int k = 0; k < COUNT; ++k) {
      std::fill_n(sums[k] + first, width, T(0));
      std::fill_n(lost[k], width, T(0));
    }
    for (int64_t top = 0; top < rows; top += ROWS_OF_BLOCK) {
      const int64_t bottom = std::min(top + ROWS_OF_BLOCK, rows);
      for (auto& of_block : block) std::fill_n(of_block, width, T(0));
      const auto add = [&](int64_t i, T* __restrict to, const auto& term, auto at_once) {
        for (int64_t j = 0; j < width; ++j) {
          if constexpr (at_once())
            to[j] += tree([](T a, T b) { return a + b; },
                          [&](int64_t r) { return term(i + r, first + j); });
          else
            to[j] += term(i, first + j);
        }
      };
      int64_t i = top;
      for (; i + ROWS_AT_ONCE <= bottom; i += ROWS_AT_ONCE) {
        int k = 0;
        (add(i, block[k++], terms, std::true_type{}), ...);
      }
      for (; i < bottom; ++i) {
        int k = 0;
        (add(i, block[k++], terms, std::false_type{}), ...);
      }
      for (int k = 0; k < COUNT; ++k) {
        T* __restrict to = sums[k] + first, * __restrict rest = lost[k];
        for (int64_t j = 0; j < width; ++j) add_compensated(to[j], rest[j], block[k][j]);
      }
    }
  }
}

}  // namespace needle::NEEDLE_ISA
