// recurrent.cpp: LSTM and RNN layers (recurrent.h) against plain loops in double, and timed.
//
// From the repository root:
//
//   g++ -O3 -march=native -mprefer-vector-width=512 -fno-math-errno -fno-trapping-math
//       -ffp-contract=fast -fopenmp-simd -std=c++20 benchmarks/native/recurrent.cpp
//       csrc/cpu/threads.cpp csrc/cpu/buffer.cpp -o recurrent
//   ./recurrent [threads] [seconds a row]   # seconds 0: checks only
//
// Each row is reported by its fastest run: the machine may be shared. Rates count the products.
#define NEEDLE_ISA bench

#include "../../csrc/cpu/kernels/recurrent.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

namespace {

using namespace needle;

template <typename T>
struct Array {
  std::vector<T> memory;
  View view{};

  Array(std::initializer_list<int64_t> shape, double size = 1) {
    int64_t count = 1;
    for (const int64_t n : shape) view.shape[view.ndim++] = n;
    for (int axis = view.ndim - 1; axis >= 0; --axis) {
      view.strides[axis] = count;
      count *= view.shape[axis];
    }
    static std::mt19937 generator(0);
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < count; ++i) memory.push_back(static_cast<T>(normal(generator) * size));
    view.dtype = sizeof(T) == 4 ? DType::Float32 : DType::Float64;
    view.data = reinterpret_cast<char*>(memory.data());
  }
};

// All operands of a layer of `gates` gates, random.
template <typename T>
struct Layer {
  int64_t steps, batch, hidden, columns;
  Array<T> gates, w, h, c, dh, dh0, dc0;

  Layer(int64_t steps, int64_t batch, int64_t hidden, int64_t gate_count)
      : steps(steps),
        batch(batch),
        hidden(hidden),
        columns(gate_count * hidden),
        gates({steps, batch, columns}),
        w({hidden, columns}, 0.7 / std::sqrt(hidden)),
        h({steps + 1, batch, hidden}),
        c({steps + 1, batch, hidden}),
        dh({steps, batch, hidden}),
        dh0({batch, hidden}),
        dc0({batch, hidden}) {}
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

using Doubles = std::vector<double>;

Doubles in_double(const auto& array) { return {array.memory.begin(), array.memory.end()}; }

int failures = 0;

template <typename T>
void expect(const char* what, const Layer<T>& x, const Array<T>& got, const Doubles& expected) {
  double worst = 0, size = 1;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(got.memory[i] - expected[i]);
    worst = error <= worst ? worst : error;
    size = std::max(size, std::fabs(expected[i]));
  }
  if (worst <= 64 * std::numeric_limits<T>::epsilon() * size * std::sqrt(x.columns)) return;
  ++failures;
  std::printf("%s: off by %g of %g; steps %d batch %d hidden %d, %d bytes\n", what, worst, size,
              int(x.steps), int(x.batch), int(x.hidden), int(sizeof(T)));
}

// gates[t] += h[t]·w
template <typename T>
void add_product(const Layer<T>& x, int64_t t, const Doubles& h, Doubles& gates) {
  for (int64_t b = 0; b < x.batch; ++b)
    for (int64_t p = 0; p < x.hidden; ++p)
      for (int64_t j = 0; j < x.columns; ++j)
        gates[(t * x.batch + b) * x.columns + j] +=
            h[(t * x.batch + b) * x.hidden + p] * x.w.memory[p * x.columns + j];
}

// later = gates[t]·wᵀ
template <typename T>
void back_product(const Layer<T>& x, int64_t t, const Doubles& gates, Doubles& later) {
  for (int64_t b = 0; b < x.batch; ++b) {
    for (int64_t p = 0; p < x.hidden; ++p) {
      double& sum = later[b * x.hidden + p] = 0;
      for (int64_t j = 0; j < x.columns; ++j)
        sum += gates[(t * x.batch + b) * x.columns + j] * x.w.memory[p * x.columns + j];
    }
  }
}

template <typename T>
void check_lstm(int64_t steps, int64_t batch, int64_t hidden) {
  Layer<T> x(steps, batch, hidden, 4);
  Doubles gates = in_double(x.gates), h = in_double(x.h), c = in_double(x.c);
  Doubles later = in_double(x.dh0), dc = in_double(x.dc0);
  const int64_t size = batch * hidden;
  const auto for_each_unit = [&](int64_t t, auto&& f) {
    for (int64_t i = 0; i < size; ++i) {
      double* g = &gates[(t * batch + i / hidden) * x.columns + i % hidden];
      f(i, g[0], g[hidden], g[2 * hidden], g[3 * hidden]);
    }
  };
  for (int64_t t = 0; t < steps; ++t) {
    add_product(x, t, h, gates);
    for_each_unit(t, [&](int64_t u, double& i, double& f, double& g, double& o) {
      i = sigmoid(i), f = sigmoid(f), g = std::tanh(g), o = sigmoid(o);
      c[(t + 1) * size + u] = f * c[t * size + u] + i * g;
      h[(t + 1) * size + u] = o * std::tanh(c[(t + 1) * size + u]);
    });
  }
  bench::lstm(x.gates.view, x.w.view, x.h.view, x.c.view);
  expect("activated gates", x, x.gates, gates);
  expect("h", x, x.h, h);
  expect("c", x, x.c, c);
  for (int64_t t = steps - 1; t >= 0; --t) {
    for_each_unit(t, [&](int64_t u, double& i, double& f, double& g, double& o) {
      const double tanh_c = std::tanh(c[(t + 1) * size + u]);
      const double d = x.dh.memory[t * size + u] + later[u];
      const double total = dc[u] + d * o * (1 - tanh_c * tanh_c), keep = f;
      o = d * tanh_c * o * (1 - o);
      f = total * c[t * size + u] * f * (1 - f);
      const double gradient_i = total * g * i * (1 - i);
      g = total * i * (1 - g * g);
      i = gradient_i;
      dc[u] = total * keep;
    });
    back_product(x, t, gates, later);
  }
  bench::lstm_grad(x.gates.view, x.w.view, x.h.view, x.c.view, x.dh.view, x.dh0.view, x.dc0.view);
  expect("gradient of the gates", x, x.gates, gates);
  expect("dh0", x, x.dh0, later);
  expect("dc0", x, x.dc0, dc);
}

template <typename T>
void check_rnn(int64_t steps, int64_t batch, int64_t hidden, bool relu) {
  Layer<T> x(steps, batch, hidden, 1);
  Doubles gates = in_double(x.gates), h = in_double(x.h), later = in_double(x.dh0);
  const int64_t size = batch * hidden;
  for (int64_t t = 0; t < steps; ++t) {
    add_product(x, t, h, gates);
    for (int64_t u = 0; u < size; ++u) {
      const double sum = gates[t * size + u];
      h[(t + 1) * size + u] = relu ? std::max(sum, 0.0) : std::tanh(sum);
    }
  }
  bench::rnn(x.gates.view, x.w.view, x.h.view, relu);
  expect("h of an RNN", x, x.h, h);
  h = in_double(x.h);  // a sum near 0 has one slope or the other
  for (int64_t t = steps - 1; t >= 0; --t) {
    for (int64_t u = 0; u < size; ++u) {
      const double y = h[(t + 1) * size + u];
      gates[t * size + u] =
          (x.dh.memory[t * size + u] + later[u]) * (relu ? double(y > 0) : 1 - y * y);
    }
    back_product(x, t, gates, later);
  }
  bench::rnn_grad(x.gates.view, x.w.view, x.h.view, x.dh.view, x.dh0.view, relu);
  expect("gradient of the sums of an RNN", x, x.gates, gates);
  expect("dh0 of an RNN", x, x.dh0, later);
}

void time_lstm(int64_t steps, int64_t batch, int64_t hidden, double seconds) {
  Layer<float> x(steps, batch, hidden, 4);
  const std::vector<float> gates = x.gates.memory;
  using Clock = std::chrono::steady_clock;
  double forward = 1e9, backward = 1e9;
  const auto start = Clock::now();
  while (Clock::now() - start < std::chrono::duration<double>(seconds)) {
    std::copy(gates.begin(), gates.end(), x.gates.memory.begin());
    std::fill(x.dh0.memory.begin(), x.dh0.memory.end(), 0.1f);
    const auto begin = Clock::now();
    bench::lstm(x.gates.view, x.w.view, x.h.view, x.c.view);
    const auto middle = Clock::now();
    bench::lstm_grad(x.gates.view, x.w.view, x.h.view, x.c.view, x.dh.view, x.dh0.view, x.dc0.view);
    forward = std::min(forward, std::chrono::duration<double>(middle - begin).count());
    backward = std::min(backward, std::chrono::duration<double>(Clock::now() - middle).count());
  }
  const double work = 8e-9 * steps * batch * hidden * hidden;
  std::printf("LSTM T %3d B %3d H %4d  forward %8.3f ms %6.1f GFLOP/s  backward %8.3f ms %6.1f\n",
              int(steps), int(batch), int(hidden), forward * 1e3, work / forward, backward * 1e3,
              work / backward);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1;
  needle::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  const int64_t shapes[][3] = {{1, 1, 1},    {3, 4, 5},   {9, 2, 17},  {1, 1, 100}, {1, 5, 64},
                               {5, 16, 100}, {7, 13, 33}, {3, 25, 64}, {2, 1, 257}, {2, 9, 300}};
  for (const auto& [steps, batch, hidden] : shapes) {
    check_lstm<float>(steps, batch, hidden);
    check_lstm<double>(steps, batch, hidden);
    for (const bool relu : {false, true}) {
      check_rnn<float>(steps, batch, hidden, relu);
      check_rnn<double>(steps, batch, hidden, relu);
    }
  }
  std::printf("%d failures\n", failures);
  if (failures > 0 || seconds == 0) return failures > 0;
  time_lstm(40, 16, 100, seconds);
  time_lstm(35, 32, 512, seconds);
  time_lstm(50, 64, 256, seconds);
  time_lstm(20, 1, 128, seconds);
  time_lstm(1, 16, 100, seconds);
}
