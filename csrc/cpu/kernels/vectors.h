// vectors.h: load, store and transposition of GCC's vector types.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

namespace needle::NEEDLE_ISA::vectors {

template <typename T, int BYTES>
struct VectorOf {
  using Type [[gnu::vector_size(BYTES)]] = T;
};
template <typename T, int BYTES>
using Vector = typename VectorOf<T, BYTES>::Type;

template <typename V, typename T>
inline V load(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof(V));
  return v;
}

// Loads the first COUNT lanes; the others are 0.
template <typename V, int COUNT, typename T>
inline V load_first(const T* from) {
  V v{};
  std::memcpy(&v, from, COUNT * sizeof(T));
  return v;
}

template <typename V, typename T>
inline void store(T* to, V v) {
  std::memcpy(to, &v, sizeof(V));
}

// Forces `v` into a register. GCC would otherwise read it from memory again at each of its uses.
template <typename V>
[[gnu::always_inline]] inline void keep_in_register([[maybe_unused]] V& v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__ARM_NEON)
  asm("" : "+w"(v));
#endif
}

template <int DISTANCE, int... LANE>
constexpr auto swap_lanes(auto low, auto high, std::integer_sequence<int, LANE...>) {
  constexpr int LANES = sizeof...(LANE);
  return std::pair{
      __builtin_shufflevector(low, high, (LANE & DISTANCE ? LANES + LANE - DISTANCE : LANE)...),
      __builtin_shufflevector(low, high, (LANE & DISTANCE ? LANES + LANE : LANE + DISTANCE)...)};
}

// Transposes the square matrix `v` in log2(SIDE) rounds. Swapping bit d of the row index with bit d
// of the lane index, for every d, swaps the two indices (Eklundh 1972).
template <int DISTANCE = 1, typename V, size_t SIDE>
[[gnu::always_inline]] inline void transpose(V (&v)[SIDE]) {
  if constexpr (DISTANCE < static_cast<int>(SIDE)) {
#pragma GCC unroll 16
    for (size_t i = 0; i < SIDE; ++i) {
      if (i & DISTANCE) continue;
      const auto [low, high] =
          swap_lanes<DISTANCE>(v[i], v[i + DISTANCE], std::make_integer_sequence<int, SIDE>{});
      v[i] = low;
      v[i + DISTANCE] = high;
    }
    transpose<DISTANCE * 2>(v);
  }
}

}  // namespace needle::NEEDLE_ISA::vectors
