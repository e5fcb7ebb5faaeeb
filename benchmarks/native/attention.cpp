// attention.cpp: attention and its gradient (attention.h) against plain loops in double, and timed.
//
// From the repository root:
//
//   g++ -O3 -march=native -mprefer-vector-width=512 -fno-math-errno -fno-trapping-math
//       -ffp-contract=fast -fopenmp-simd -std=c++20 benchmarks/native/attention.cpp
//       csrc/cpu/threads.cpp csrc/cpu/buffer.cpp -o attention
//   ./attention [threads] [seconds a row]   # seconds 0: checks only
//
// Each row is reported by its fastest run: the machine may be shared. Rates count all products,
// masked or not.
#define NEEDLE_ISA bench

#include "../../csrc/cpu/kernels/attention.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace {

using namespace needle;

// An array (B, H, rows, columns) whose heads stand side by side in memory, as (B, rows, H,
// columns), with `gap` rows of heads between the rows. What is not a result is NaN.
template <typename T>
struct Array {
  std::vector<T> memory;
  View view{};

  Array(int64_t b, int64_t h, int64_t rows, int64_t columns, int64_t gap, bool random)
      : memory(b * rows * h * columns * gap, T(NAN)) {
    const int64_t shape[] = {b, h, rows, columns};
    const int64_t strides[] = {rows * h * columns * gap, columns, h * columns * gap, 1};
    view.dtype = sizeof(T) == 4 ? DType::Float32 : DType::Float64;
    view.ndim = 4;
    std::copy_n(shape, 4, view.shape);
    std::copy_n(strides, 4, view.strides);
    view.data = reinterpret_cast<char*>(memory.data());
    static std::mt19937 generator(0);
    std::normal_distribution<double> normal;
    if (!random) return;
    for (T& x : memory) x = static_cast<T>(normal(generator));
  }
  T& at(int64_t b, int64_t h, int64_t i, int64_t j) {
    return memory[b * view.strides[0] + h * view.strides[1] + i * view.strides[2] +
                  j * view.strides[3]];
  }
};

struct Sizes {
  int64_t b, h, t, s, d, e;
};

template <typename T>
struct Problem {
  Sizes n;
  bool causal;
  double scale;
  Array<T> q, k, v, mask, g, out, lse, dq, dk, dv;
  const View* added;

  Problem(const Sizes& n, bool masked, bool causal, int64_t gap)
      : n(n),
        causal(causal),
        scale(1 / std::sqrt(std::max<double>(n.d, 1))),
        q(n.b, n.h, n.t, n.d, gap, true),
        k(n.b, n.h, n.s, n.d, gap, true),
        v(n.b, n.h, n.s, n.e, gap, true),
        mask(n.b, n.h, n.t, n.s, 1, true),
        g(n.b, n.h, n.t, n.e, 1, true),
        out(n.b, n.h, n.t, n.e, 1, false),
        lse(n.b, n.h, n.t, 2, 1, false),
        dq(n.b, n.h, n.t, n.d, gap, false),
        dk(n.b, n.h, n.s, n.d, gap, false),
        dv(n.b, n.h, n.s, n.e, gap, false),
        added(masked ? &mask.view : nullptr) {}
  void forward() {
    bench::attention(q.view, k.view, v.view, added, out.view, lse.view, scale, causal);
  }
  void backward() {
    bench::attention_grad(g.view, q.view, k.view, v.view, added, out.view, lse.view, dq.view,
                          dk.view, dv.view, scale, causal);
  }
};

int failures = 0;

template <typename T>
void expect(const char* what, const Sizes& n, double got, double expected, double size) {
  const double tolerance = std::numeric_limits<T>::epsilon() * 32 * size;
  if (std::fabs(got - expected) <= tolerance || got == expected) return;
  if (++failures < 20) {
    std::printf("%s: %g, expected %g; b %d h %d t %d s %d d %d e %d\n", what, got, expected,
                int(n.b), int(n.h), int(n.t), int(n.s), int(n.d), int(n.e));
  }
}

// One head by plain loops in double.
template <typename T>
void check_head(Problem<T>& x, int64_t b, int64_t h) {
  const auto [_, __, t, s, d, e] = x.n;
  std::vector<double> dk(s * d), dv(s * e), p(s);
  for (int64_t i = 0; i < t; ++i) {
    double top = -INFINITY, sum = 0, dot = 0;
    for (int64_t j = 0; j < s; ++j) {
      p[j] = 0;
      for (int64_t c = 0; c < d; ++c) p[j] += double(x.q.at(b, h, i, c)) * x.k.at(b, h, j, c);
      p[j] = p[j] * x.scale + (x.added ? double(x.mask.at(b, h, i, j)) : 0);
      if (x.causal && j > i) p[j] = -INFINITY;
      top = std::max(top, p[j]);
    }
    for (double& y : p) sum += y = top == -INFINITY ? 0 : std::exp(y - top);
    for (double& y : p) y = sum == 0 ? 0 : y / sum;
    expect<T>("lse", x.n, x.lse.at(b, h, i, 0) + x.lse.at(b, h, i, 1),
              sum == 0 ? INFINITY : top + std::log(sum), 8);
    for (int64_t c = 0; c < e; ++c) {
      double o = 0;
      for (int64_t j = 0; j < s; ++j) o += p[j] * x.v.at(b, h, j, c);
      expect<T>("out", x.n, x.out.at(b, h, i, c), o, 4);
      dot += o * x.g.at(b, h, i, c);
    }
    std::vector<double> dq(d);
    for (int64_t j = 0; j < s; ++j) {
      double dp = 0;
      for (int64_t c = 0; c < e; ++c) {
        dp += double(x.g.at(b, h, i, c)) * x.v.at(b, h, j, c);
        dv[j * e + c] += p[j] * x.g.at(b, h, i, c);
      }
      const double ds = p[j] * (dp - dot) * x.scale;
      for (int64_t c = 0; c < d; ++c) {
        dq[c] += ds * x.k.at(b, h, j, c);
        dk[j * d + c] += ds * x.q.at(b, h, i, c);
      }
    }
    for (int64_t c = 0; c < d; ++c) expect<T>("dq", x.n, x.dq.at(b, h, i, c), dq[c], 16);
  }
  for (int64_t j = 0; j < s; ++j) {
    for (int64_t c = 0; c < d; ++c) expect<T>("dk", x.n, x.dk.at(b, h, j, c), dk[j * d + c], 32);
    for (int64_t c = 0; c < e; ++c) expect<T>("dv", x.n, x.dv.at(b, h, j, c), dv[j * e + c], 32);
  }
}

template <typename T>
void check(const Sizes& n, int masked, bool causal, int64_t gap) {
  Problem<T> x(n, masked > 0, causal, gap);
  if (masked > 1) {
    for (T& y : x.mask.memory) y = y > 0.5 ? -T(INFINITY) : y;
    for (int64_t j = 0; j < n.s && n.t > 0; ++j) x.mask.at(0, 0, n.t / 2, j) = -T(INFINITY);
  }
  x.forward();
  x.backward();
  for (int64_t b = 0; b < n.b; ++b)
    for (int64_t h = 0; h < n.h; ++h) check_head(x, b, h);
}

double fastest(double seconds, auto&& run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  for (const auto start = Clock::now();
       Clock::now() - start < std::chrono::duration<double>(seconds);) {
    const auto begin = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

void time(const Sizes& n, bool masked, bool causal, double seconds) {
  Problem<float> x(n, masked, causal, 3);
  const double forward = fastest(seconds, [&] { x.forward(); });
  const double backward = fastest(seconds, [&] { x.backward(); });
  const double work = 2e-9 * n.b * n.h * n.t * n.s * (n.d + n.e);
  std::printf(
      "B %2d H %2d T %4d S %4d d %3d%s%s  forward %8.3f ms %6.1f GFLOP/s  backward %8.3f ms %6.1f "
      "GFLOP/s\n",
      int(n.b), int(n.h), int(n.t), int(n.s), int(n.d), causal ? " causal" : "       ",
      masked ? " mask" : "     ", forward * 1e3, work / forward, backward * 1e3,
      2.5 * work / backward);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1;
  needle::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  const Sizes shapes[] = {
      {1, 1, 1, 1, 1, 1},       {2, 3, 5, 7, 4, 6},       {1, 2, 64, 64, 32, 32},
      {2, 2, 33, 65, 16, 48},   {1, 1, 100, 31, 64, 64},  {1, 2, 1, 200, 32, 32},
      {1, 2, 3, 130, 20, 24},   {1, 1, 150, 150, 64, 16}, {1, 1, 17, 17, 33, 31},
      {1, 1, 70, 137, 80, 112}, {1, 1, 4, 0, 8, 8},       {1, 1, 40, 40, 4, 1}};
  for (const Sizes& n : shapes) {
    for (const int masked : {0, 1, 2}) {
      for (const bool causal : {false, true}) {
        for (const int64_t gap : {1, 3}) {
          check<float>(n, masked, causal, gap);
          check<double>(n, masked, causal, gap);
        }
      }
    }
  }
  std::printf("%d failures\n", failures);
  if (failures > 0 || seconds == 0) return failures > 0;
  time({12, 4, 64, 64, 32, 32}, false, true, seconds);
  time({12, 4, 64, 64, 32, 32}, false, false, seconds);
  time({8, 6, 64, 64, 64, 64}, false, true, seconds);
  time({2, 4, 256, 256, 64, 64}, false, true, seconds);
  time({2, 4, 256, 256, 64, 64}, true, false, seconds);
  time({1, 2, 1024, 1024, 64, 64}, false, true, seconds);
  time({1, 2, 1024, 1024, 64, 64}, false, false, seconds);
  time({1, 12, 1, 512, 64, 64}, false, false, seconds);
}
