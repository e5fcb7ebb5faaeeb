// softmax_regression.h: one epoch of softmax regression by minibatch gradient descent.
//
// Contract: x (samples, features) and theta (features, classes) are row-major; y (samples) holds
// labels below `classes`. theta is updated in place after every batch of consecutive rows; the last
// batch may be smaller. Of the rest of the core, this file needs only the threads, so that it can
// be read as a small program of its own.
//
// Idea: theta is copied into rows that are padded to whole vectors of LANES classes. Each vector of
// theta is loaded once for a group of SAMPLES rows of x: first for the logits (x·theta), then, in
// the same way, for the gradient (xᵀ·(softmax - one_hot)). The groups of a batch are distributed
// among the threads, each of which accumulates a gradient of its own. Bound: the multiply-add rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "simd.h"
#include "threads.h"

namespace needle::NEEDLE_ISA {

namespace softmax_regression {

typedef float Vector __attribute__((vector_size(REGISTER_BYTES)));

constexpr size_t LANES = 16, VECTORS = LANES * sizeof(float) / REGISTER_BYTES;
constexpr size_t SAMPLES = 8 / VECTORS;  // eight accumulators fit into registers with operands

struct Lanes {  // LANES consecutive classes
  Vector v[VECTORS];

  void add_product(float x, const Lanes& y) {
    for (size_t k = 0; k < VECTORS; ++k) v[k] += x * y.v[k];
  }
  Lanes& operator-=(const Lanes& y) {
    for (size_t k = 0; k < VECTORS; ++k) v[k] -= y.v[k];
    return *this;
  }
};

struct Problem {
  const float* x;
  size_t features, classes, blocks;  // blocks of LANES classes
};

using Matrix = std::unique_ptr<Lanes[]>;  // (rows, blocks), zero beyond the last class

constexpr size_t CACHE_LINE = 64 / sizeof(float);

// Several rows are read at the same time, a pattern that hardware prefetchers detect badly. On an
// EPYC with AVX2, prefetching the rows of the next group halved the time of an epoch.
inline void prefetch_next_group(const Problem& p, const float* const* rows, size_t i) {
  for (size_t s = 0; s < SAMPLES; ++s) __builtin_prefetch(rows[s] + SAMPLES * p.features + i);
}

// logits[s] = x[first + s]·theta for `count` <= SAMPLES rows. The first row is repeated in place of
// missing rows.
inline void group_logits(const Problem& p, const Lanes* theta, size_t first, size_t count,
                         Lanes* logits) {
  const float* rows[SAMPLES];
  for (size_t s = 0; s < SAMPLES; ++s) rows[s] = p.x + (first + (s < count ? s : 0)) * p.features;
  for (size_t block = 0; block < p.blocks; ++block) {
    Lanes sum[SAMPLES] = {};
    for (size_t i = 0; i < p.features; ++i) {
      const Lanes weights = theta[i * p.blocks + block];
      if (block == 0 && i % CACHE_LINE == 0) prefetch_next_group(p, rows, i);
      for (size_t s = 0; s < SAMPLES; ++s) sum[s].add_product(rows[s][i], weights);
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
  row[std::min<size_t>(label, classes - 1)] -= scale;  // clamped: another thread may write y
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
      for (size_t s = 0; s < SAMPLES; ++s) sum.add_product(rows[s][i], e[s]);
      gradient[i * p.blocks + block] = sum;
    }
  }
}

// The memory of one thread: a gradient, and the logits of a group.
struct Share {
  Matrix gradient, logits;
  explicit Share(const Problem& p)
      : gradient(new Lanes[p.features * p.blocks]), logits(new Lanes[SAMPLES * p.blocks]) {}
};

// share.gradient = the part of the batch's gradient from rows [first, end), times `scale`.
inline void share_gradient(const Problem& p, const Lanes* weights, const uint8_t* y, size_t first,
                           size_t end, float scale, Share& share) {
  std::fill_n(share.gradient.get(), p.features * p.blocks, Lanes{});
  for (; first < end; first += SAMPLES) {
    const size_t count = std::min(SAMPLES, end - first);
    group_logits(p, weights, first, count, share.logits.get());
    for (size_t s = 0; s < count; ++s) {
      float* row = reinterpret_cast<float*>(share.logits.get() + s * p.blocks);
      logits_to_error(row, p.classes, y[first + s], scale);
    }
    group_gradient(p, share.logits.get(), first, count, share.gradient.get());
  }
}

}  // namespace softmax_regression

inline void softmax_regression_epoch(const float* x, const uint8_t* y, float* theta, size_t samples,
                                     size_t features, size_t classes, float lr, size_t batch) {
  using namespace softmax_regression;
  const Problem p{x, features, classes, (classes + LANES - 1) / LANES};
  const size_t size = features * p.blocks;
  const Matrix weights(new Lanes[size]());
  for (size_t i = 0; i < features; ++i) {
    std::copy_n(theta + i * classes, classes, reinterpret_cast<float*>(&weights[i * p.blocks]));
  }
  // The number of threads that the work of one batch is worth.
  const size_t worth = std::min(batch, samples) * size * LANES / PARALLEL_GRAIN;
  const size_t threads = std::clamp<size_t>(worth, 1, static_cast<size_t>(num_threads()));
  std::vector<Share> shares;
  for (size_t t = 0; t < threads; ++t) shares.emplace_back(p);
  for (size_t start = 0; start < samples; start += batch) {
    const size_t count = std::min(batch, samples - start);
    const float scale = lr / static_cast<float>(count);
    parallel_for(static_cast<int64_t>(threads), [&](int64_t t) {
      const size_t first = start + count * t / threads, end = start + count * (t + 1) / threads;
      share_gradient(p, weights.get(), y, first, end, scale, shares[t]);
    });
    for (const Share& share : shares) {
      for (size_t i = 0; i < size; ++i) weights[i] -= share.gradient[i];
    }
  }
  for (size_t i = 0; i < features; ++i) {
    const float* row = reinterpret_cast<const float*>(&weights[i * p.blocks]);
    std::copy_n(row, classes, theta + i * classes);
  }
}

}  // namespace needle::NEEDLE_ISA
