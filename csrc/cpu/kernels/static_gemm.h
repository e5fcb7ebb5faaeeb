// static_gemm.h: C = A B for shapes and strides that are compile-time constants.
//
// Contract: `Shape` has the constants M, N, K >= 1, the element strides A_ROW, A_COL, B_ROW, B_COL
// (one of each pair is 1) and C_ROW. C (M, N) is row-major and aliases neither A nor B. It is
// overwritten, or accumulated into with ACCUMULATE. Batched products also have BATCH and the
// strides A_BATCH, B_BATCH, C_BATCH. `epilogue` is called on blocks that tile C exactly once, on
// the thread that computed the block and while the block is in L1 or L2. An epilogue may not
// multiply matrices itself, because it shares the scratch memory of its thread. For a fixed number
// of parts the result is the same from run to run: the order in which the terms of an element are
// summed depends on the shape only. Terms are added without compensation, K in slabs, as in every
// BLAS: the error is at most K·u·Σ|ab|.
//
// Idea: the blocking of gemm.h (Goto & van de Geijn 2008; BLIS, Van Zee & van de Geijn 2015), with
// every decision taken at compile time, as in libxsmm (Heinecke et al. 2016). M is split into tiles
// whose heights differ by at most one, the last columns have a micro-kernel of exactly their width,
// and an operand is packed only if reading it in place would cost more. A micro-kernel depends only
// on the size of its tile, so that the shapes of a program share them.
//
// Bound: the FMA rate (peak.h). Measured in benchmarks/native/static_gemm.cpp.
#pragma once

#include <cstdint>

#include "gemm/scratch.h"
#include "gemm/static_dots.h"
#include "gemm/static_plan.h"
#include "gemm/static_tiles.h"

namespace needle::NEEDLE_ISA {

namespace static_gemm_detail {

// ---- Choice of the algorithm --------------------------------------------------------------------

enum class Method { TILES, SWAPPED, DOTS };

template <class Shape>
constexpr Method choose_method() {
  if (Shape::A_COL == 1 && Shape::K >= 256 &&
      (Shape::N <= FEW_COLUMNS || (Shape::B_ROW == 1 && Shape::M <= 48)))
    return Method::DOTS;
  if (is_swapped(Shape::M, Shape::N, Shape::A_ROW == 1)) return Method::SWAPPED;
  return Method::TILES;
}

template <class Shape, bool ACCUMULATE, typename T>
void multiply(const T* a, const T* b, T* c, const Epilogue& epilogue, int64_t part, int64_t parts) {
  constexpr Method METHOD = choose_method<Shape>();
  if constexpr (METHOD == Method::DOTS) {
    static constexpr DotPlan<T> PLAN = make_dot_plan<Shape, T>();
    multiply_part<T>(PLAN, {a, b, c, 0, ACCUMULATE}, epilogue, part, parts);
  } else if constexpr (METHOD == Method::SWAPPED) {
    static constexpr TilePlan<T> PLAN = make_tile_plan<Swapped<Shape>, T>();
    T* transposed = scratch<T>(TRANSPOSED_C, Shape::M * Shape::N);
    const auto finish = [&](int64_t number, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
      int64_t offset = 0;
      if constexpr (requires { Shape::BATCH; }) offset = number * Shape::C_BATCH;
      transpose_back<Shape, ACCUMULATE>(transposed, c + offset, {j0, j1}, {i0, i1});
      epilogue.call(epilogue.context, number, i0, i1, j0, j1);
    };
    multiply_part<T>(PLAN, {b, a, transposed, 0, false}, epilogue_of(finish), part, parts);
  } else {
    static constexpr TilePlan<T> PLAN = make_tile_plan<Shape, T>();
    multiply_part<T>(PLAN, {a, b, c, 0, ACCUMULATE}, epilogue, part, parts);
  }
}

template <class Shape>
int64_t useful_threads() {
  int64_t work = Shape::M * Shape::N * Shape::K;
  if constexpr (requires { Shape::BATCH; }) work *= Shape::BATCH;
  return threads_for(work, MIN_WORK_PER_THREAD);
}

}  // namespace static_gemm_detail

constexpr auto no_epilogue = [](auto...) {};

// Computes part `part` of `parts` of C = A B; each thread of a parallel region calls it for its
// part. No part waits for another. epilogue(i0, i1, j0, j1) is called when rows [i0, i1) and
// columns [j0, j1) are complete.
template <class Shape, bool ACCUMULATE = false, typename T, typename F>
void static_gemm_part(const T* a, const T* b, T* c, const F& epilogue, int64_t part,
                      int64_t parts) {
  using namespace static_gemm_detail;
  multiply<Shape, ACCUMULATE>(a, b, c, epilogue_of_one(epilogue), part, parts);
}

// Computes C = A B on as many threads as the work is worth.
template <class Shape, bool ACCUMULATE = false, typename T, typename F = decltype(no_epilogue)>
[[gnu::noinline]] void static_gemm(const T* a, const T* b, T* c, const F& epilogue = no_epilogue) {
  const int64_t parts = static_gemm_detail::useful_threads<Shape>();
  parallel_for(parts, [&](int64_t part) {
    static_gemm_part<Shape, ACCUMULATE>(a, b, c, epilogue, part, parts);
  });
}

// Computes part `part` of `parts` of Shape::BATCH products. epilogue(number, i0, i1, j0, j1) is
// called as above, for product `number`.
template <class Shape, bool ACCUMULATE = false, typename T, typename F>
void static_gemm_batched_part(const T* a, const T* b, T* c, const F& epilogue, int64_t part,
                              int64_t parts) {
  using namespace static_gemm_detail;
  multiply<Shape, ACCUMULATE>(a, b, c, epilogue_of(epilogue), part, parts);
}

template <class Shape, bool ACCUMULATE = false, typename T, typename F = decltype(no_epilogue)>
[[gnu::noinline]] void static_gemm_batched(const T* a, const T* b, T* c,
                                           const F& epilogue = no_epilogue) {
  const int64_t parts = static_gemm_detail::useful_threads<Shape>();
  parallel_for(parts, [&](int64_t part) {
    static_gemm_batched_part<Shape, ACCUMULATE>(a, b, c, epilogue, part, parts);
  });
}

}  // namespace needle::NEEDLE_ISA
