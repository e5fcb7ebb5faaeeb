// softmax_regression.h: one epoch of softmax regression by minibatch gradient descent.
//
// Contract: x (samples, features), theta (features, classes) row-major, y (samples) labels below
// `classes`. theta is updated in place after every batch of consecutive rows; the last batch may be
// short. Nothing here needs the rest of the core: it is a small program to learn from.
//
// Idea: theta is copied into rows padded to whole vectors of LANES classes. A group of SAMPLES rows
// of x then shares every vector of theta that is loaded: first for the logits (x·theta), then, in
// the same way, for the gradient (xᵀ·(softmax - one_hot)). Bound: the multiply-add rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace needle::NEEDLE_ISA {

namespace softmax_regression {

constexpr size_t LANES = 16, SAMPLES = 8;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

struct Problem {
  const float* x;
  size_t features, classes, blocks;  // blocks of LANES classes
};

using Matrix = std::unique_ptr<Lanes[]>;  // (rows, blocks), zero beyond the last class

// logits[s] = x[first + s]·theta for `count` <= SAMPLES rows. Missing rows repeat the first.
inline void group_logits(const Problem& p, const Lanes* theta, size_t first, size_t count,
                         Lanes* logits) {
  const float* rows[SAMPLES];
  for (size_t s = 0; s < SAMPLES; ++s) rows[s] = p.x + (first + (s < count ? s : 0)) * p.features;
  for (size_t block = 0; block < p.blocks; ++block) {
    Lanes sum[SAMPLES] = {};
    for (size_t i = 0; i < p.features; ++i) {
      const Lanes weights = theta[i * p.blocks + block];
      for (size_t s = 0; s < SAMPLES; ++s) sum[s] += rows[s][i] * weights;
    }
    for (size_t s = 0; s < SAMPLES; ++s) logits[s * p.blocks + block] = sum[s];
  }
}

// Turns a row of logits into (softmax - one_hot)·scale. The largest logit is subtracted first, so
// that no exponential overflows.
inline void logits_to_error(float* row, size_t classes, uint8_t label, float scale) {
  const float top = *std::max_element(row, row + classes);
  float sum = 0;
  for (size_t j = 0; j < classes; ++j) sum += row[j] = std::exp(row[j] - top);
  for (size_t j = 0; j < classes; ++j) row[j] *= scale / sum;
  row[label] -= scale;
}

// gradient += xᵀ·error over the group's rows.
inline void group_gradient(const Problem& p, const Lanes* error, size_t first, size_t count,
                           Lanes* gradient) {
  const float* rows[SAMPLES];
  for (size_t s = 0; s < SAMPLES; ++s) rows[s] = p.x + (first + (s < count ? s : 0)) * p.features;
  for (size_t block = 0; block < p.blocks; ++block) {
    Lanes e[SAMPLES];
    for (size_t s = 0; s < SAMPLES; ++s) e[s] = s < count ? error[s * p.blocks + block] : Lanes{};
    for (size_t i = 0; i < p.features; ++i) {
      Lanes sum = gradient[i * p.blocks + block];
      for (size_t s = 0; s < SAMPLES; ++s) sum += rows[s][i] * e[s];
      gradient[i * p.blocks + block] = sum;
    }
  }
}

inline void copy_rows(const Problem& p, const float* theta, Lanes* padded) {
  for (size_t i = 0; i < p.features; ++i) {
    std::copy_n(theta + i * p.classes, p.classes, reinterpret_cast<float*>(padded + i * p.blocks));
  }
}

}  // namespace softmax_regression

inline void softmax_regression_epoch(const float* x, const uint8_t* y, float* theta, size_t samples,
                                     size_t features, size_t classes, float lr, size_t batch) {
  using namespace softmax_regression;
  const Problem p{x, features, classes, (classes + LANES - 1) / LANES};
  const size_t size = features * p.blocks;
  const Matrix weights(new Lanes[size]()), gradient(new Lanes[size]);
  const Matrix logits(new Lanes[SAMPLES * p.blocks]);
  copy_rows(p, theta, weights.get());
  for (size_t start = 0; start < samples; start += batch) {
    const size_t end = std::min(start + batch, samples);
    const float scale = lr / static_cast<float>(end - start);
    std::fill_n(gradient.get(), size, Lanes{});
    for (size_t first = start; first < end; first += SAMPLES) {
      const size_t count = std::min(SAMPLES, end - first);
      group_logits(p, weights.get(), first, count, logits.get());
      for (size_t s = 0; s < count; ++s) {
        float* row = reinterpret_cast<float*>(logits.get() + s * p.blocks);
        logits_to_error(row, classes, y[first + s], scale);
      }
      group_gradient(p, logits.get(), first, count, gradient.get());
    }
    for (size_t i = 0; i < size; ++i) weights[i] -= gradient[i];
  }
  for (size_t i = 0; i < features; ++i) {
    const float* row = reinterpret_cast<const float*>(weights.get() + i * p.blocks);
    std::copy_n(row, classes, theta + i * classes);
  }
}

}  // namespace needle::NEEDLE_ISA
