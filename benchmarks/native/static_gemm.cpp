// static_gemm.cpp: products of known shape (static_gemm.h) against gemm.h and the peak.
//
// From the repository root:
//
//   g++ -O3 -march=native -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp-simd
//       -std=c++20 benchmarks/native/static_gemm.cpp csrc/cpu/threads.cpp
//       csrc/cpu/buffer.cpp -o static_gemm
//   ./static_gemm [threads] [seconds a row] [prefix of the rows]   # seconds 0: checks only
//
// -DCHECK_ONLY leaves the timings out, -DTIME_ONLY the checks. The contenders take turns, and each
// is reported by its fastest run: the machine may be shared.
#define NEEDLE_ISA jit

#include "../../csrc/cpu/kernels/static_gemm.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../../csrc/cpu/kernels/gemm.h"
#include "../../csrc/cpu/kernels/peak.h"

namespace {

using namespace needle::jit;

// A product as the generated code names it. TRANSPOSED_A: A is stored (K, M). PAD lengthens the
// rows of all three matrices.
template <int64_t M_, int64_t N_, int64_t K_, bool TRANSPOSED_A = false, bool TRANSPOSED_B = false,
          int64_t BATCH_ = 1, int64_t PAD = 0>
struct Shape {
  static constexpr int64_t M = M_, N = N_, K = K_, BATCH = BATCH_;
  static constexpr int64_t A_ROW = TRANSPOSED_A ? 1 : K + PAD, A_COL = TRANSPOSED_A ? M + PAD : 1;
  static constexpr int64_t B_ROW = TRANSPOSED_B ? 1 : N + PAD, B_COL = TRANSPOSED_B ? K + PAD : 1;
  static constexpr int64_t C_ROW = N + PAD;
  static constexpr int64_t A_BATCH = M * A_ROW * !TRANSPOSED_A + K * A_COL * TRANSPOSED_A,
                           B_BATCH = K * B_ROW * !TRANSPOSED_B + N * B_COL * TRANSPOSED_B,
                           C_BATCH = M * C_ROW;
};

constexpr auto NOTHING = [](auto...) {};

// Vectors of exactly the size of the matrices let the address sanitizer see what is read past
// their end.
template <typename T>
std::vector<T> random_elements(int64_t count) {
  static std::mt19937 generator(0);
  std::uniform_real_distribution<T> uniform(-1, 1);
  std::vector<T> elements(count);
  for (T& x : elements) x = uniform(generator);
  return elements;
}

// ---- Checks -------------------------------------------------------------------------------------

int failures = 0;

template <class S, typename T, bool ACCUMULATE>
void check_product(int64_t parts) {
  const auto a = random_elements<T>(S::BATCH * S::A_BATCH);
  const auto b = random_elements<T>(S::BATCH * S::B_BATCH);
  const auto before = random_elements<T>(S::BATCH * S::C_BATCH);
  auto c = before;
  std::vector<int> visits(c.size(), 0);
  std::vector<T> seen(c.size(), T(0));
  const auto visit = [&](int64_t number, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    for (int64_t i = i0; i < i1; ++i) {
      for (int64_t j = j0; j < j1; ++j) {
        const int64_t at = number * S::C_BATCH + i * S::C_ROW + j;
        ++visits[at];
        seen[at] = c[at];
      }
    }
  };
  if (parts == 0) {
    static_gemm_batched<S, ACCUMULATE>(a.data(), b.data(), c.data(), visit);
  } else {
    for (int64_t part = 0; part < parts; ++part)
      static_gemm_batched_part<S, ACCUMULATE>(a.data(), b.data(), c.data(), visit, part, parts);
  }
  const char* error = nullptr;
  for (int64_t at = 0; at < static_cast<int64_t>(c.size()); ++at) {
    const int64_t number = at / S::C_BATCH, i = at % S::C_BATCH / S::C_ROW, j = at % S::C_ROW;
    if (j >= S::N) {
      if (c[at] != before[at]) error = "wrote between rows";
      continue;
    }
    double sum = ACCUMULATE ? before[at] : 0, size = 1;
    for (int64_t p = 0; p < S::K; ++p) {
      const double term =
          static_cast<double>(a[number * S::A_BATCH + i * S::A_ROW + p * S::A_COL]) *
          b[number * S::B_BATCH + p * S::B_ROW + j * S::B_COL];
      sum += term;
      size += std::fabs(term);
    }
    const double unit = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53;
    if (!(std::fabs(c[at] - sum) <= unit * size * (std::sqrt(S::K) + 4))) error = "wrong sum";
    if (visits[at] != 1) error = "not exactly one epilogue";
    if (seen[at] != c[at]) error = "epilogue before the end";
  }
  if (error == nullptr) return;
  ++failures;
  std::printf("%s: m %d n %d k %d, A stride %d B stride %d, accumulate %d, parts %d\n", error,
              int(S::M), int(S::N), int(S::K), int(S::A_ROW), int(S::B_ROW), ACCUMULATE,
              int(parts));
}

template <typename T, int64_t M, int64_t N, int64_t K, int64_t BATCH = 1, int64_t PAD = 0>
void check_layouts() {
  check_product<Shape<M, N, K, false, false, BATCH, PAD>, T, false>(1);
  check_product<Shape<M, N, K, true, false, BATCH, PAD>, T, true>(2);
  check_product<Shape<M, N, K, false, true, BATCH, PAD>, T, false>(3);
  check_product<Shape<M, N, K, true, true, BATCH, PAD>, T, true>(0);
}

// Odd sizes, the same in every build.
constexpr int64_t sampled_size(int number, int axis) {
  const uint32_t hash = (uint32_t(number) * 3 + axis + 1) * 2654435761u;
  return 1 + (hash >> 16) % 70;
}

template <int... NUMBER>
void check_sampled(std::integer_sequence<int, NUMBER...>) {
  (check_layouts<float, sampled_size(NUMBER, 0), sampled_size(NUMBER, 1),
                 sampled_size(NUMBER, 2)>(),
   ...);
}

void check() {
#ifndef TIME_ONLY
  check_sampled(std::make_integer_sequence<int, 24>{});
  check_layouts<float, 1, 1, 1>();
  check_layouts<float, 1, 70, 33>();
  check_layouts<float, 70, 1, 33>();
  check_layouts<float, 1, 10, 300>();
  check_layouts<float, 2, 2, 2>();
  check_layouts<float, 65, 10, 523>();
  check_layouts<float, 10, 65, 1031>();
  check_layouts<float, 150, 130, 700>();
  check_layouts<float, 33, 40, 17, 5, 3>();
  check_layouts<float, 300, 1040, 20>();
  check_layouts<float, 17, 10, 300, 7, 6>();
  check_layouts<float, 64, 64, 64, 2>();
  check_layouts<double, 23, 37, 41>();
  check_layouts<double, 70, 10, 300, 2>();
  check_layouts<double, 9, 3, 5>();
  std::printf(failures == 0 ? "all products are right\n" : "%d products are wrong\n", failures);
#endif
}

// ---- Timings ------------------------------------------------------------------------------------

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

struct Options {
  double seconds = 0.3;
  std::string prefix;
};
Options options;

template <class S>
void time_product(const std::string& name) {
  if (name.compare(0, options.prefix.size(), options.prefix) != 0) return;
  const auto a = random_elements<float>(S::BATCH * S::A_BATCH);
  const auto b = random_elements<float>(S::BATCH * S::B_BATCH);
  std::vector<float> c(S::BATCH * S::C_BATCH), expected(S::BATCH * S::C_BATCH);
  const auto run_static = [&] { static_gemm_batched<S>(a.data(), b.data(), c.data(), NOTHING); };
  const auto run_gemm = [&] {
    const auto one = [&](int64_t number) {
      gemm<float>(S::M, S::N, S::K, a.data() + number * S::A_BATCH, S::A_ROW, S::A_COL,
                  b.data() + number * S::B_BATCH, S::B_ROW, S::B_COL,
                  expected.data() + number * S::C_BATCH, S::C_ROW, nullptr, 0);
    };
    if (S::BATCH == 1) return one(0);
    needle::parallel_range(S::BATCH, S::M * S::N * S::K / 8, [&](int64_t begin, int64_t end) {
      for (int64_t number = begin; number < end; ++number) one(number);
    });
  };
  const auto timed = [](double& best, const auto& run, int64_t repetitions) {
    const double start = now();
    for (int64_t i = 0; i < repetitions; ++i) run();
    best = std::min(best, (now() - start) / repetitions);
  };
  constexpr double FLOPS = 2.0 * S::BATCH * S::M * S::N * S::K;
  const int64_t repetitions = std::max<int64_t>(1, 2e7 / FLOPS);  // some 100 us between clocks
  double static_time = 1e9, gemm_time = 1e9, peak = 0;
  const double start = now();
  do {
    peak = std::max(peak, peak_flops(0.0005));
    for (int i = 0; i < 4; ++i) {
      timed(static_time, run_static, repetitions);
      timed(gemm_time, run_gemm, repetitions);
    }
  } while (now() - start < options.seconds);
  double difference = 0;
  for (size_t i = 0; i < c.size(); ++i)
    difference = std::max(difference, std::fabs(double(c[i]) - expected[i]));
  std::printf("%-12s %5d x %5d x %5d %s%s %10.2f us %6.1f %% of peak (gemm.h %5.1f) %6.2f x%s\n",
              name.c_str(), int(S::M), int(S::N), int(S::K), S::A_ROW == 1 ? "T" : "n",
              S::B_ROW == 1 ? "T" : "n", static_time * 1e6, 100 * FLOPS / static_time / peak,
              100 * FLOPS / gemm_time / peak, gemm_time / static_time,
              difference > 1e-5 * S::K ? "  WRONG" : "");
  std::fflush(stdout);
}

// The products of a layer: forward, and the gradients of its weight and of its input.
template <int64_t BATCH, int64_t OUT, int64_t IN>
void time_linear(const std::string& name) {
  time_product<Shape<BATCH, OUT, IN>>(name);
  time_product<Shape<IN, OUT, BATCH, true>>(name);
  time_product<Shape<BATCH, IN, OUT, false, true>>(name);
}

void time_all() {
#ifndef CHECK_ONLY
  std::printf("peak on %d threads: %.1f GFLOP/s\n", needle::num_threads(), peak_flops(0.2) / 1e9);
  time_linear<100, 100, 784>("two-layer");
  time_linear<100, 10, 100>("two-layer");
  time_linear<256, 1024, 784>("wide");
  time_linear<256, 1024, 1024>("wide");
  time_linear<256, 10, 1024>("wide");
  time_linear<100, 50, 100>("resnet");
  time_linear<100, 100, 50>("resnet");
  time_linear<640, 10000, 100>("lstm");
  time_linear<640, 400, 100>("lstm");
  time_linear<16, 400, 100>("lstm");
  time_linear<1120, 2048, 512>("lstm-large");
  time_linear<32, 2048, 512>("lstm-large");
  time_linear<1120, 10000, 512>("lstm-large");
  time_linear<768, 384, 128>("gpt");
  time_linear<768, 128, 128>("gpt");
  time_linear<768, 512, 128>("gpt");
  time_linear<768, 128, 512>("gpt");
  time_linear<768, 65, 128>("gpt");
  time_product<Shape<64, 64, 32, false, true, 48>>("attention");
  time_product<Shape<64, 32, 64, false, false, 48>>("attention");
  time_product<Shape<64, 32, 64, true, false, 48>>("attention");
#endif
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1) needle::set_num_threads(std::max(1, std::atoi(arguments[1])));
  if (count > 2) options.seconds = std::atof(arguments[2]);
  if (count > 3) options.prefix = arguments[3];
  check();
  if (options.seconds > 0) time_all();
  return failures == 0 ? 0 : 1;
}
