// A cuBLASLt library without a device: the part that needle calls, on the emulated driver's memory.
//
// Products are computed by their definition. The kernel that the heuristic offers relies on the
// alignments it was told of, and a product with others fails. TF32 rounds what is multiplied.
// Numbers of 16 bits are added in float, but rounded after every term where partial sums may be of
// the type of the results. Calls are logged and made to fail by the driver's emulator_calls and
// emulator_fail.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum Status : int { SUCCESS = 0, INVALID_VALUE = 7, INTERNAL_ERROR = 14, NOT_SUPPORTED = 15 };
enum Compute : int { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_TF32 = 77 };
enum Type : int { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };

using Work = void (*)(void*);

/// A function of the emulated driver in the same folder, which the program has loaded.
void* driver_function(const char* name) {
  static void* const library = [] {
    Dl_info self;
    dladdr(reinterpret_cast<void*>(&driver_function), &self);
    const std::string path = self.dli_fname;
    return dlopen((path.substr(0, path.rfind('/')) + "/libcuda.so.1").c_str(), RTLD_NOW);
  }();
  return library != nullptr ? dlsym(library, name) : nullptr;
}

int call(const char* function, const std::string& about = "") {
  const auto emulated =
      reinterpret_cast<int (*)(const char*, const char*)>(driver_function("emulator_call"));
  return emulated != nullptr ? emulated(function, about.c_str()) : INTERNAL_ERROR;
}

struct Description {
  int compute, scale, transposed[2] = {0, 0}, epilogue = 1;
  const void* bias = nullptr;
};

struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t step;
  int batch = 1;
  int64_t batch_step = 0;
};

enum Reduction : uint32_t { IN_PLACE = 1, IN_COMPUTE_TYPE = 2, IN_OUTPUT_TYPE = 4 };

struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = IN_PLACE | IN_COMPUTE_TYPE | IN_OUTPUT_TYPE;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

struct Algorithm {
  uint64_t alignment[4], workspace, reductions, unused[2];
};

struct Choice {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Choice) == 96, "as cublasLtMatmulHeuristicResult_t");

template <class T>
int set(T& to, const void* value, size_t size) {
  if (value == nullptr || size != sizeof(T)) return INVALID_VALUE;
  std::memcpy(&to, value, size);
  return SUCCESS;
}

bool fits(const Layout& x) { return x.step >= int64_t(x.rows) && x.batch >= 1; }

/// Whether a (m, k) · b (k, n) is the size of d, after what is transposed.
bool match(const Description& what, const Layout& a, const Layout& b, const Layout& d) {
  const uint64_t m = what.transposed[0] ? a.cols : a.rows, k = what.transposed[0] ? a.rows : a.cols;
  const uint64_t depth = what.transposed[1] ? b.cols : b.rows,
                 n = what.transposed[1] ? b.rows : b.cols;
  return m == d.rows && n == d.cols && k == depth && a.batch == d.batch && b.batch == d.batch &&
         a.type == d.type && b.type == d.type && fits(a) && fits(b) && fits(d);
}

float as_tf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x0fffu + (bits >> 13 & 1u)) & 0xffffe000u;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

/// A number of 16 bits with DIGITS of a fraction, as IEEE 754 has them.
template <int DIGITS>
struct Number16 {
  static constexpr int BIAS = (1 << (14 - DIGITS)) - 1, INFINITE = 0x7fff >> DIGITS << DIGITS;
  uint16_t bits = 0;

  Number16() = default;
  explicit Number16(float x) {
    const float size = std::abs(x);
    int rest = INFINITE + std::isnan(x);
    if (size < std::ldexp(1.0f, BIAS) * 2) {
      const int exponent = std::max(std::ilogb(size), 1 - BIAS);
      // What rounding carries over makes the exponent one larger.
      rest = ((exponent + BIAS - 1) << DIGITS) + std::lrint(std::ldexp(size, DIGITS - exponent));
    }
    bits = uint16_t(rest | (std::signbit(x) ? 0x8000 : 0));
  }
  operator float() const {
    const int rest = bits & 0x7fff, exponent = std::max(rest >> DIGITS, 1);
    const int digits = rest - ((exponent - 1) << DIGITS);
    const float size = rest < INFINITE   ? std::ldexp(float(digits), exponent - BIAS - DIGITS)
                       : rest > INFINITE ? NAN
                                         : INFINITY;
    return bits & 0x8000 ? -size : size;
  }
};

struct Product {
  Description what;
  Layout a, b, d;
  const void *pa, *pb;
  void *pd, *workspace;
  size_t workspace_bytes;
  bool rounds_terms;
};

template <class T>
void compute(const Product& p) {
  using Sum = decltype(+T());
  const auto number = [&](const void* data, const Layout& x, int batch, uint64_t i, uint64_t j,
                          bool transposed) {
    const Sum value = static_cast<const T*>(
        data)[batch * x.batch_step + (transposed ? j + i * x.step : i + j * x.step)];
    return p.what.compute == COMPUTE_TF32 ? Sum(as_tf32(float(value))) : value;
  };
  const uint64_t depth = p.what.transposed[0] ? p.a.rows : p.a.cols;
  for (int batch = 0; batch < p.d.batch; ++batch) {
    for (uint64_t j = 0; j < p.d.cols; ++j) {
      for (uint64_t i = 0; i < p.d.rows; ++i) {
        Sum sum = 0;
        for (uint64_t k = 0; k < depth; ++k) {
          sum += number(p.pa, p.a, batch, i, k, p.what.transposed[0]) *
                 number(p.pb, p.b, batch, k, j, p.what.transposed[1]);
          if (p.rounds_terms) sum = T(sum);
        }
        if (p.what.epilogue & 4) sum += static_cast<const T*>(p.what.bias)[i];
        if (p.what.epilogue & 2) sum = sum > 0 ? sum : Sum(0);
        static_cast<T*>(p.pd)[batch * p.d.batch_step + i + j * p.d.step] = T(sum);
      }
    }
  }
}

void run(void* data) {
  const Product& p = *static_cast<const Product*>(data);
  if (p.workspace_bytes != 0) std::memset(p.workspace, 0xFF, p.workspace_bytes);
  switch (p.d.type) {
    case R_32F:
      return compute<float>(p);
    case R_64F:
      return compute<double>(p);
    case R_16F:
      return compute<Number16<10>>(p);
    case R_16BF:
      return compute<Number16<7>>(p);
  }
}

/// Whether products of matrices of the type are computed and scaled so.
bool computes(const Description& what, int type) {
  if (type == R_64F) return what.compute == COMPUTE_64F && what.scale == R_64F;
  const bool tf32 = what.compute == COMPUTE_TF32 && type == R_32F;
  return (what.compute == COMPUTE_32F || tf32) && what.scale == R_32F;
}

}  // namespace

EXPORT size_t cublasLtGetVersion() {
  const char* set = std::getenv("NEEDLE_EMULATOR_CUBLASLT");
  return set != nullptr ? std::atoi(set) : 130100;
}

EXPORT int cublasLtCreate(void** handle) {
  static int the_handle;
  *handle = &the_handle;
  return call("cublasLtCreate");
}

EXPORT int cublasLtMatmulDescCreate(Description** what, int compute, int scale) {
  *what = new Description{compute, scale};
  return SUCCESS;
}

EXPORT int cublasLtMatmulDescSetAttribute(Description* what, int attribute, const void* value,
                                          size_t size) {
  switch (attribute) {
    case 3:
      return set(what->transposed[0], value, size);
    case 4:
      return set(what->transposed[1], value, size);
    case 7:
      return set(what->epilogue, value, size);
    case 8:
      return set(what->bias, value, size);
    default:
      return INVALID_VALUE;
  }
}

EXPORT int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t cols,
                                      int64_t step) {
  *layout = new Layout{type, rows, cols, step};
  return SUCCESS;
}

EXPORT int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value,
                                            size_t size) {
  if (attribute == 5) return set(layout->batch, value, size);
  return attribute == 6 ? set(layout->batch_step, value, size) : INVALID_VALUE;
}

EXPORT int cublasLtMatmulPreferenceCreate(Preference** preference) {
  *preference = new Preference;
  return SUCCESS;
}

EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute,
                                                const void* value, size_t size) {
  if (attribute == 1) return set(preference->workspace, value, size);
  if (attribute == 3) return set(preference->reductions, value, size);
  if (attribute < 5 || attribute > 8) return INVALID_VALUE;
  return set(preference->alignment[attribute - 5], value, size);
}

EXPORT int cublasLtMatmulPreferenceDestroy(Preference* preference) {
  delete preference;
  return SUCCESS;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, const Description* what, const Layout* a,
                                          const Layout* b, const Layout*, const Layout* d,
                                          const Preference* preference, int wanted, Choice* choices,
                                          int* found) {
  *found = 0;
  const int failed = call("cublasLtMatmulAlgoGetHeuristic");
  if (failed != SUCCESS) return failed;
  if (wanted < 1 || !match(*what, *a, *b, *d)) return INVALID_VALUE;
  if (!computes(*what, d->type)) return NOT_SUPPORTED;
  // Like the library, it has no epilogues in double.
  if (what->compute == COMPUTE_64F && what->epilogue != 1) return NOT_SUPPORTED;
  Choice& choice = choices[0];
  std::memset(&choice, 0, sizeof choice);
  for (int i = 0; i < 4; ++i) choice.algorithm.alignment[i] = preference->alignment[i];
  choice.algorithm.reductions = preference->reductions;
  choice.workspace = choice.algorithm.workspace = preference->workspace < 1024 ? 0 : 1024;
  *found = 1;
  return SUCCESS;
}

EXPORT int cublasLtMatmul(void*, const Description* what, const void*, const void* a,
                          const Layout* a_layout, const void* b, const Layout* b_layout,
                          const void*, const void*, const Layout*, void* d, const Layout* d_layout,
                          const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                          void* stream) {
  const void* const operands[] = {a, b, d, d};
  for (int i = 0; i < 4; ++i) {
    if (reinterpret_cast<uintptr_t>(operands[i]) % algorithm->alignment[i]) return INVALID_VALUE;
  }
  if (workspace_bytes < algorithm->workspace) return INVALID_VALUE;
  void* memory = std::malloc(sizeof(Product));
  const bool rounds_terms = algorithm->reductions & (IN_PLACE | IN_OUTPUT_TYPE);
  new (memory) Product{*what, *a_layout, *b_layout, *d_layout,       a,
                       b,     d,         workspace, workspace_bytes, rounds_terms};
  const std::string about = std::to_string(d_layout->cols) + "x" + std::to_string(d_layout->rows) +
                            " of type " + std::to_string(d_layout->type) + " compute " +
                            std::to_string(what->compute);
  const auto enqueue = reinterpret_cast<int (*)(const char*, const char*, void*, Work, void*)>(
      driver_function("emulator_enqueue"));
  return enqueue("cublasLtMatmul", about.c_str(), stream, run, memory);
}
