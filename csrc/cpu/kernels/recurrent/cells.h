// cells.h: the element-wise part of one step of a recurrent layer, in vectors.
//
// Contract: a function computes one vector of units, either all of its lanes or only the first one
// (see Lanes). Pointers point at the first of these units.
//
// Bound: about twenty vector operations for each activation.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../functions.h"
#include "../gemm/sizes.h"
#include "../vectors.h"

namespace needle::NEEDLE_ISA {

namespace recurrent_detail {

// Consecutive units of a layer.
struct Units {
  int64_t first, last;

  int64_t count() const { return last - first; }
};

// The element type of a vector of any width.
template <typename V>
using ElementOf = std::decay_t<decltype(V{}[0])>;

// 1 / (1 + exp(-x)), with the polynomial of functions.h. The exponent is clamped to ±87, where 2^n
// is a normal number. The special treatment of subnormal results in functions.h is not needed,
// because they are added to 1.
template <typename V>
[[gnu::always_inline]] inline V sigmoid(V x) {
  if constexpr (std::is_same_v<ElementOf<V>, float>) {
    V y = x < -87.0f ? V{} + 87.0f : -x;
    y = y < -87.0f ? V{} - 87.0f : y;
    const V shifted = y * 1.44269504088896341f + 12583039.0f;  // 1.5 · 2^23 + 127
    const V n = shifted - 12583039.0f;
    const V r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return 1.0f / (1.0f + p * (V)((vectors::Vector<int32_t, sizeof(V)>)shifted << 23));
  } else {
    for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = f::sigmoid<ElementOf<V>>(x[i]);
    return x;
  }
}

// The rational minimax approximation of Eigen (MathFunctionsImpl.h, generic_fast_tanh_float): one
// division and no exponential.
template <typename V>
[[gnu::always_inline]] inline V tanh(V x) {
  if constexpr (std::is_same_v<ElementOf<V>, float>) {
    constexpr float END = 7.90531110763549805f;
    V y = x > END ? V{} + END : x;
    y = y < -END ? V{} - END : y;
    const V z = y * y;
    V p = z * -2.76076847742355e-16f + 2.00018790482477e-13f;
    p = p * z - 8.60467152213735e-11f;
    p = p * z + 5.12229709037114e-08f;
    p = p * z + 1.48572235717979e-05f;
    p = p * z + 6.37261928875436e-04f;
    p = p * z + 4.89352455891786e-03f;
    V q = z * 1.19825839466702e-06f + 1.18534705686654e-04f;
    q = q * z + 2.26843463243900e-03f;
    q = q * z + 4.89352518554385e-03f;
    return y * p / q;
  } else {
    for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = f::tanh<ElementOf<V>>(x[i]);
    return x;
  }
}

// Loads and stores of vectors of which only COUNT elements exist in memory.
template <typename V, int COUNT = sizeof(V) / sizeof(V{}[0])>
struct Lanes {
  using T = ElementOf<V>;

  [[gnu::always_inline]] static V load(const T* from) {
    V v{};
    std::memcpy(&v, from, COUNT * sizeof(T));
    return v;
  }
  [[gnu::always_inline]] static void store(T* to, V v) { std::memcpy(to, &v, COUNT * sizeof(T)); }
};

// Computes the LSTM cell for one vector of units of one row. The four gates are `gate` elements
// apart in `gates` and `sum` elements apart in `sums`; the sums are added to the gates. `before` is
// c of the previous time step.
template <typename Lanes, typename T>
[[gnu::always_inline]] inline void lstm_cell(Lanes lanes, int64_t gate, T* gates, int64_t sum,
                                             const T* sums, const T* before, T* c, T* h) {
  const auto input = [&](int64_t k) __attribute__((always_inline)) {
    return lanes.load(gates + k * gate) + lanes.load(sums + k * sum);
  };
  const auto i = sigmoid(input(0)), f = sigmoid(input(1)), g = tanh(input(2)),
             o = sigmoid(input(3));
  lanes.store(gates, i);
  lanes.store(gates + gate, f);
  lanes.store(gates + 2 * gate, g);
  lanes.store(gates + 3 * gate, o);
  const auto cell = f * lanes.load(before) + i * g;
  lanes.store(c, cell);
  lanes.store(h, o * tanh(cell));
}

// The gradient of lstm_cell. `gates` holds the activated gates and is overwritten with their
// gradients. `dc` holds the gradient of `c` and is overwritten with the gradient of `before`.
template <typename Lanes, typename T>
[[gnu::always_inline]] inline void lstm_cell_gradient(Lanes lanes, int64_t gate, T* gates,
                                                      const T* before, const T* c, const T* dh,
                                                      const T* later, T* dc) {
  const auto i = lanes.load(gates), f = lanes.load(gates + gate), g = lanes.load(gates + 2 * gate),
             o = lanes.load(gates + 3 * gate);
  const auto tanh_c = tanh(lanes.load(c)), d = lanes.load(dh) + lanes.load(later);
  const auto total = lanes.load(dc) + d * o * (1 - tanh_c * tanh_c);
  lanes.store(gates, total * g * i * (1 - i));
  lanes.store(gates + gate, total * lanes.load(before) * f * (1 - f));
  lanes.store(gates + 2 * gate, total * i * (1 - g * g));
  lanes.store(gates + 3 * gate, d * tanh_c * o * (1 - o));
  lanes.store(dc, total * f);
}

// Calls f(lanes, u) for the units in full vectors, then for the remaining units in narrower ones.
template <typename T, int BYTES = REGISTER_BYTES>
[[gnu::always_inline]] inline void for_each_vector(Units units, auto&& f) {
  constexpr int64_t COUNT = BYTES / sizeof(T);
  int64_t u = units.first;
  for (; u + COUNT <= units.last; u += COUNT) f(Lanes<vectors::Vector<T, BYTES>>{}, u);
  if constexpr (BYTES > gemm_detail::MIN_VECTOR_BYTES) {
    for_each_vector<T, BYTES / 2>({u, units.last}, f);
  } else {
    for (; u < units.last; ++u) f(Lanes<vectors::Vector<T, BYTES>, 1>{}, u);
  }
}

template <typename Lanes, typename T>
[[gnu::always_inline]] inline void rnn_cell(Lanes lanes, bool relu, const T* gates, T* h) {
  const auto sum = lanes.load(gates);
  lanes.store(h, relu ? sum < 0 ? std::decay_t<decltype(sum)>{} : sum : tanh(sum));  // keeps NaN
}

template <typename T>
void rnn_cell_gradient(int64_t n, bool relu, T* __restrict gates, const T* __restrict h,
                       const T* __restrict dh, const T* __restrict later) {
  for (int64_t j = 0; j < n; ++j) {
    const T slope = relu ? h[j] <= 0 ? T(0) : T(1) : 1 - h[j] * h[j];
    gates[j] = (dh[j] + later[j]) * slope;
  }
}

}  // namespace recurrent_detail

}  // namespace needle::NEEDLE_ISA
