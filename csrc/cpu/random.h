// random.h: advances the state of NumPy's legacy generator without generating numbers.
#pragma once

#include <algorithm>
#include <cstdint>

namespace needle {

// The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998) in NumPy's memory layout. `position`
// is the number of words of the current block that have been used.
struct MersenneTwister {
  static constexpr int N = 624, M = 397;
  uint32_t key[N];
  int position;

  // Advances the state as if `words` 32-bit numbers had been drawn.
  void advance(int64_t words) {
    while (words > 0) {
      if (position == N) {
        next_block();
        position = 0;
      }
      const int taken = static_cast<int>(std::min<int64_t>(words, N - position));
      position += taken, words -= taken;
    }
  }

 private:
  void next_block() {
    for (int i = 0; i < N - M; ++i) key[i] = key[i + M] ^ twisted(key[i], key[i + 1]);
    for (int i = N - M; i < N - 1; ++i) key[i] = key[i + M - N] ^ twisted(key[i], key[i + 1]);
    key[N - 1] = key[M - 1] ^ twisted(key[N - 1], key[0]);
  }

  static uint32_t twisted(uint32_t high, uint32_t low) {
    const uint32_t both = (high & 0x80000000u) | (low & 0x7fffffffu);
    return (both >> 1) ^ ((both & 1u) ? 0x9908b0dfu : 0u);
  }
};

}  // namespace needle
