// static_convolution.cpp: convolutions of known shape (static_convolution.h) against those of the
// core (convolution.h), checked and timed.
//
// From the repository root:
//
//   g++ -O3 -march=native -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp-simd
//       -std=c++20 benchmarks/native/static_convolution.cpp csrc/cpu/threads.cpp -o
//       static_convolution
//   ./static_convolution [threads] [repetitions]   # repetitions 0: checks only
//
// Both take turns, and each is reported by its fastest run: the machine may be shared. Rates count
// what lies on the zeros around the images as well, which static_convolution.h leaves out.
#define NEEDLE_ISA bench

#include "../../csrc/cpu/kernels/static_convolution.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/cpu/kernels/convolution.h"
#include "../../csrc/cpu/kernels/program_runtime.h"

namespace {

using namespace needle;
using namespace needle::bench;

int repetitions = 0;
int failures = 0;

// Images (n, h, w, c) under a kernel (kh, kw) of f filters. PLANAR images have a plane a channel.
template <int64_t n, int64_t h, int64_t w, int64_t c, int64_t kh, int64_t kw, int64_t f, int64_t sy,
          int64_t sx, int64_t top, int64_t left, bool PLANAR = false>
using Shape = ConvolutionShape<n, h, w, c, kh, kw, f, (h + 2 * top - kh) / sy + 1,
                               (w + 2 * left - kw) / sx + 1, sy, sx, top, left, PLANAR ? c : 1,
                               PLANAR ? h * w : 0, h * w * c, kw * c * f, 0, kh * kw * c * f>;

// Exactly as large as its array, so that the address sanitizer sees what is read past its end.
template <typename T>
std::vector<T> random_elements(int64_t count) {
  static std::mt19937 generator(0);
  std::normal_distribution<double> normal;
  std::vector<T> elements(count);
  for (T& x : elements) x = static_cast<T>(normal(generator));
  return elements;
}

template <typename T>
View view_of(std::vector<T>& memory, int64_t n, int64_t h, int64_t w, int64_t c,
             bool planar = false) {
  using Four = std::array<int64_t, 4>;
  const Four strides = planar ? Four{h * w * c, w, 1, h * w} : Four{h * w * c, w * c, c, 1};
  return view<4>(reinterpret_cast<char*>(memory.data()),
                 sizeof(T) == 4 ? DType::Float32 : DType::Float64, {n, h, w, c}, strides);
}

template <typename F>
double seconds(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs both, compares what they leave in `ours` and `theirs`, and times them.
template <typename T, typename Ours, typename Theirs>
void compare(const char* what, double flops, const std::vector<T>& ours,
             const std::vector<T>& theirs, const Ours& run_ours, const Theirs& run_theirs) {
  run_ours();
  run_theirs();
  double error = 0, largest = 1;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double difference = std::fabs(ours[i] - theirs[i]);
    if (!(difference <= error)) error = difference;
    largest = std::max<double>(largest, std::fabs(theirs[i]));
  }
  if (!(error <= 64 * std::numeric_limits<T>::epsilon() * largest)) {
    std::printf("%s: differs by %g of %g\n", what, error, largest);
    ++failures;
  }
  double best = INFINITY, core = INFINITY;
  for (int i = 0; i < repetitions; ++i) {
    best = std::min(best, seconds(run_ours));
    core = std::min(core, seconds(run_theirs));
  }
  if (repetitions > 0)
    std::printf("  %-16s %9.1f us %7.1f GFLOP/s   core %9.1f us   %.2f x\n", what, 1e6 * best,
                flops / best / 1e9, 1e6 * core, core / best);
}

template <class S, typename T>
void row(const char* name) {
  constexpr bool PLANAR = S::PLANES > 1;
  constexpr int64_t IN = S::IMAGES * S::X_IMAGE,
                    OUT = S::IMAGES * S::OUT_HEIGHT * S::OUT_WIDTH * S::FILTERS;
  std::vector<T> x = random_elements<T>(IN), w = random_elements<T>(S::W_ELEMENTS),
                 g = random_elements<T>(OUT);
  std::vector<T> y(OUT), core_y(OUT), dx(IN), core_dx(IN), dw(S::W_ELEMENTS),
      core_dw(S::W_ELEMENTS);
  const auto image = [&](std::vector<T>& memory, bool planar) {
    return view_of(memory, S::IMAGES, S::HEIGHT, S::WIDTH, S::CHANNELS, planar);
  };
  const auto kernel = [&](std::vector<T>& memory) {
    return view_of(memory, S::KERNEL_HEIGHT, S::KERNEL_WIDTH, S::CHANNELS, S::FILTERS);
  };
  const auto result = [&](std::vector<T>& memory) {
    return view_of(memory, S::IMAGES, S::OUT_HEIGHT, S::OUT_WIDTH, S::FILTERS);
  };
  constexpr Pair STRIDE{S::STRIDE_Y, S::STRIDE_X}, DILATION{1, 1}, PADDING{S::TOP, S::LEFT};
  const double flops = 2.0 * OUT * S::KERNEL_HEIGHT * S::KERNEL_WIDTH * S::CHANNELS;
  if (repetitions > 0) std::printf("%s\n", name);
  compare(
      "convolution", flops, y, core_y, [&] { static_convolution<S>(x.data(), w.data(), y.data()); },
      [&] { conv2d(image(x, PLANAR), kernel(w), result(core_y), STRIDE, DILATION, PADDING, 1); });
  compare(
      "image gradient", flops, dx, core_dx,
      [&] { static_convolution_input_gradient<S>(g.data(), w.data(), dx.data()); },
      [&] {
        conv2d_input_grad(result(g), kernel(w), image(core_dx, false), STRIDE, DILATION, PADDING,
                          1);
      });
  compare(
      "weight gradient", flops, dw, core_dw,
      [&] { static_convolution_weight_gradient<S>(x.data(), g.data(), dw.data()); },
      [&] {
        conv2d_weight_grad(image(x, PLANAR), result(g), kernel(core_dw), STRIDE, DILATION, PADDING,
                           1);
      });
}

}  // namespace

int main(int count, char** arguments) {
  needle::set_num_threads(count > 1 ? std::atoi(arguments[1]) : 1);
  static constexpr needle::Threads pool{needle::num_threads, needle::run_tasks,
                                        needle::current_task};
  needle_threads = &pool;
  needle_allocate_scratch = [](size_t bytes, size_t unit) {
    return std::aligned_alloc(unit, bytes);
  };
  row<Shape<5, 7, 6, 3, 3, 2, 10, 2, 1, 1, 0, true>, float>("planes, 10 filters");
  row<Shape<9, 7, 6, 5, 3, 2, 10, 2, 1, 1, 0>, float>("5 channels");
  row<Shape<17, 5, 9, 16, 4, 3, 33, 1, 3, 2, 1>, float>("33 filters");
  row<Shape<17, 5, 9, 16, 4, 3, 7, 3, 2, 0, 1>, double>("double");
  row<Shape<29, 1, 9, 9, 1, 3, 37, 1, 1, 0, 2>, double>("one row");
  row<Shape<3, 2, 2, 8, 3, 3, 4, 1, 1, 1, 1>, float>("few images");
  row<Shape<16, 6, 6, 2, 5, 5, 3, 4, 4, 0, 0, true>, double>("pixels that no window reaches");
  row<Shape<16, 6, 6, 2, 1, 1, 3, 2, 2, 0, 0>, float>("strides beyond the kernel");
  repetitions = count > 2 ? std::atoi(arguments[2]) : 30;
  row<Shape<128, 32, 32, 3, 7, 7, 16, 4, 4, 3, 3, true>, float>("ResNet9, 3 to 16, planes");
  row<Shape<128, 8, 8, 16, 3, 3, 32, 2, 2, 1, 1>, float>("ResNet9, 16 to 32");
  row<Shape<128, 4, 4, 32, 3, 3, 32, 1, 1, 1, 1>, float>("ResNet9, 32 to 32");
  row<Shape<128, 4, 4, 32, 3, 3, 64, 2, 2, 1, 1>, float>("ResNet9, 32 to 64");
  row<Shape<64, 16, 16, 64, 3, 3, 64, 1, 1, 1, 1>, float>("16 x 16, 64 to 64");
  row<Shape<32, 32, 32, 32, 3, 3, 32, 1, 1, 1, 1>, float>("32 x 32, 32 to 32");
  if (failures > 0) return 1;
  std::printf("all results agree with the core's\n");
}
