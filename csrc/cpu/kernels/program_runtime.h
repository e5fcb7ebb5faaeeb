// program_runtime.h: the runtime library of the code that needle.jit generates.
//
// A generated file defines NEEDLE_ISA and includes this header. It holds one function for each loop
// nest, and one function that calls these and the core's kernels in order. Shapes and strides are
// constants in the code. The file can be compiled as a whole, or in two parts on two cores at once:
// NEEDLE_PART is 1 for the loop nests and 2 for the rest.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <ctime>
#include <vector>

#include "../kernels.h"
#include "../scratch.h"
#include "../threads.h"
#include "functions.h"
#include "sums.h"

// The functions of the core, which the core sets when it loads the library.
extern "C" {
inline const needle::Threads* needle_threads = nullptr;
inline void* (*needle_allocate_scratch)(size_t bytes, size_t alignment) = nullptr;
}

// A function that is defined in one part of the program and called by the other.
#define NEEDLE_LOOP [[gnu::noinline, gnu::visibility("hidden")]] void

namespace needle {

inline int num_threads() { return needle_threads->num_threads(); }
inline int64_t current_task() { return needle_threads->current_task(); }
inline void run_tasks(int64_t tasks, TaskFunction function, const void* context) {
  needle_threads->run_tasks(tasks, function, context);
}
inline void* allocate_scratch(size_t bytes, size_t alignment) {
  return needle_allocate_scratch(bytes, alignment);
}

}  // namespace needle

namespace needle::NEEDLE_ISA {

template <size_t N>
View view(char* data, DType dtype, const std::array<int64_t, N>& shape,
          const std::array<int64_t, N>& strides) {
  View v;
  v.data = data;
  v.dtype = dtype;
  v.ndim = static_cast<int>(N);
  std::copy(shape.begin(), shape.end(), v.shape);
  std::copy(strides.begin(), strides.end(), v.strides);
  return v;
}

// The number of parts into which [0, n) is worth splitting if one element costs `cost`. It depends
// on the number of threads and on nothing that changes from run to run.
inline int64_t parts_of(int64_t n, int64_t cost) {
  const int64_t worth = n * cost / PARALLEL_GRAIN;
  return worth <= 1 ? 1 : std::min({worth, n, static_cast<int64_t>(num_threads())});
}

// Calls body(part, begin, end) for consecutive parts of [0, n).
template <typename Body>
void for_parts(int64_t n, int64_t parts, const Body& body) {
  parallel_for(parts, [&](int64_t i) { body(i, n * i / parts, n * (i + 1) / parts); });
}

// The constants of a matrix product; see static_gemm.h.
template <int64_t m, int64_t n, int64_t k, int64_t a_row, int64_t a_col, int64_t b_row,
          int64_t b_col>
struct ProductShape {
  static constexpr int64_t M = m, N = n, K = k, A_ROW = a_row, A_COL = a_col, B_ROW = b_row,
                           B_COL = b_col, C_ROW = n;
};

template <int64_t m, int64_t n, int64_t k, int64_t a_row, int64_t a_col, int64_t b_row,
          int64_t b_col, int64_t batch, int64_t a_batch, int64_t b_batch>
struct BatchedShape : ProductShape<m, n, k, a_row, a_col, b_row, b_col> {
  static constexpr int64_t BATCH = batch, A_BATCH = a_batch, B_BATCH = b_batch, C_BATCH = m * n;
};

// The constants of a convolution; see static_convolution.h.
template <int64_t images, int64_t height, int64_t width, int64_t channels, int64_t kernel_height,
          int64_t kernel_width, int64_t filters, int64_t out_height, int64_t out_width,
          int64_t stride_y, int64_t stride_x, int64_t top, int64_t left, int64_t planes,
          int64_t x_plane, int64_t x_image, int64_t w_row, int64_t w_offset, int64_t w_elements>
struct ConvolutionShape {
  static constexpr int64_t IMAGES = images, HEIGHT = height, WIDTH = width, CHANNELS = channels;
  static constexpr int64_t KERNEL_HEIGHT = kernel_height, KERNEL_WIDTH = kernel_width;
  static constexpr int64_t FILTERS = filters, OUT_HEIGHT = out_height, OUT_WIDTH = out_width;
  static constexpr int64_t STRIDE_Y = stride_y, STRIDE_X = stride_x, TOP = top, LEFT = left;
  static constexpr int64_t PLANES = planes, X_PLANE = x_plane, X_IMAGE = x_image;
  static constexpr int64_t W_ROW = w_row, W_OFFSET = w_offset, W_ELEMENTS = w_elements;
};

// The column sums (or maxima, minima) of a matrix product, accumulated block by block in each task
// of a loop of at most num_threads() tasks. Each task has `row` elements, of which the first
// `width` are its accumulators. The others are further state, such as the lost low-order parts of a
// compensated sum. All of them start at `start`.
template <typename T>
class ColumnSums {
 public:
  ColumnSums(int64_t width, int64_t row, T start)
      : width_(width), row_(row), tasks_(num_threads()) {
    static thread_local std::vector<T> memory[SUMS_OF_A_PRODUCT];
    static thread_local int next = 0;
    std::vector<T>& mine = memory[next++ % SUMS_OF_A_PRODUCT];
    mine.assign(tasks_ * row, start);
    sums_ = mine.data();
  }

  T* of_this_task() const { return sums_ + current_task() * row_; }

  template <T (*combine)(T, T)>
  [[gnu::noinline]] void join(T* out) const {
    std::copy_n(sums_, width_, out);
    for (int64_t task = 1; task < tasks_; ++task) {
      for (int64_t j = 0; j < width_; ++j) out[j] = combine(out[j], sums_[task * row_ + j]);
    }
  }

 private:
  static constexpr int SUMS_OF_A_PRODUCT = 16;  // the most that exist at once
  int64_t width_, row_, tasks_;
  T* sums_;
};

// Runs `body`, the program of one step, over time. Its buffers are the carries, the slices of this
// step, the inputs that are the same in all steps, the new carries, the outputs of this step, and
// an arena.
//
// `inputs` and `outputs` are the buffers of the whole loop in the same order. `bytes` is the size
// of one step of each slice and each output. A carry is written alternately to `spare` and to its
// output, so that its last value ends in the output.
template <int carries, int slices, int fixed, int outs, int64_t length, bool reverse, class Body>
void run_scan(Body body, const KernelTable* k,
              const std::array<char*, carries + slices + fixed>& inputs,
              const std::array<char*, carries + outs>& outputs,
              const std::array<char*, carries>& spare,
              const std::array<int64_t, slices + outs>& bytes, char* arena) {
  constexpr int results = carries + slices + fixed;
  std::array<char*, results + carries + outs + 1> b{};
  std::copy(inputs.begin(), inputs.end(), b.begin());
  b.back() = arena;
  for (int64_t step = 0; step < length; ++step) {
    const int64_t t = reverse ? length - 1 - step : step;
    const bool last = (length - 1 - step) % 2 == 0;
    for (int i = 0; i < carries; ++i) {
      if (step > 0) b[i] = b[results + i];
      b[results + i] = last ? outputs[i] : spare[i];
    }
    for (int i = 0; i < slices; ++i) b[carries + i] = inputs[carries + i] + t * bytes[i];
    for (int i = carries; i < carries + outs; ++i) {
      b[results + i] = outputs[i] + t * bytes[slices + i - carries];
    }
    body(b.data(), k);
  }
}

// Adds the seconds of its lifetime to `seconds`. (Including <chrono> would take a third of the
// compile time.)
struct Timer {
  explicit Timer(double& seconds) : sum(seconds), start(now()) {}
  ~Timer() { sum += now() - start; }
  static double now() {
    std::timespec time;
    std::timespec_get(&time, TIME_UTC);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  double& sum;
  double start;
};

// condition ? x : y for a loop-invariant condition. GCC would compile the operator to a branch and
// not vectorize the loop, which took 2.5 times as long.
template <typename T>
inline T choose(bool condition, T x, T y) {
  using Bits =
      std::conditional_t<sizeof(T) == 8, int64_t,
                         std::conditional_t<sizeof(T) == 4, int32_t,
                                            std::conditional_t<sizeof(T) == 2, int16_t, int8_t>>>;
  const Bits mask = -static_cast<Bits>(condition);
  const Bits chosen = (std::bit_cast<Bits>(x) & mask) | (std::bit_cast<Bits>(y) & ~mask);
  return std::bit_cast<T>(chosen);
}

// Maximum and minimum that propagate NaN, as everywhere in needle.
template <typename T>
inline T larger(T a, T b) {
  return (b > a) | (b != b) ? b : a;
}
template <typename T>
inline T smaller(T a, T b) {
  return (b < a) | (b != b) ? b : a;
}

// A loop finds the largest of many floats with OpenMP's own max, which loses NaNs, and notes the
// NaNs in a mask of its own. Each of the two takes an instruction or two a vector. `larger` takes
// four, and the next point would have to wait for all of them.
template <typename T>
using Mask = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
template <typename T>
inline Mask<T> nan_mask(T x) {
  return x != x ? -1 : 0;
}

// The same for integers and bools, as OpenMP reductions. A loop starts from the identity, so that
// every lane may start from the loop's initial value.
// clang-format off
#pragma omp declare reduction(larger : int32_t, int64_t, uint8_t : \
    omp_out = larger(omp_out, omp_in)) initializer(omp_priv = omp_orig)
#pragma omp declare reduction(smaller : int32_t, int64_t, uint8_t : \
    omp_out = smaller(omp_out, omp_in)) initializer(omp_priv = omp_orig)
// clang-format on

}  // namespace needle::NEEDLE_ISA
