// Makes CUDA C++ compile as C++: the part of the language and of its built-in functions that NVRTC
// gives a kernel without any header.
//
// It includes nothing from the standard library, so that a kernel compiles in a tenth of a second,
// and declares nothing that NVRTC does not: what compiles here should compile there. The threads of
// a block run on one host thread (block.cpp), so an atomic operation is a plain one.
#pragma once

#include "runtime.h"

#define NEEDLE_EMULATOR 1

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

// Blocks run one after the other, so a block's shared variables are static ones, in a section of
// their own that the driver can fill before each block.
#ifdef __APPLE__
#define __shared__ static __attribute__((section("__DATA,emulator_shared")))
extern char emulator_shared_begin[] __asm("section$start$__DATA$emulator_shared");
extern char emulator_shared_end[] __asm("section$end$__DATA$emulator_shared");
#else
#define __shared__ static __attribute__((section("emulator_shared")))
extern "C" __attribute__((visibility("hidden"))) char __start_emulator_shared[];
extern "C" __attribute__((visibility("hidden"))) char __stop_emulator_shared[];
#define emulator_shared_begin __start_emulator_shared
#define emulator_shared_end __stop_emulator_shared
#endif
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared)
#endif

typedef decltype(sizeof 0) size_t;
typedef decltype((char*)0 - (char*)0) ptrdiff_t;

// --- Vector types, aligned as CUDA's ---

#define EMULATOR_VECTORS(T, name, align2, align4)                           \
  struct name##1 { T x; };                                                  \
  struct __align__(align2) name##2 { T x, y; };                             \
  struct name##3 { T x, y, z; };                                            \
  struct __align__(align4) name##4 { T x, y, z, w; };                       \
  static inline name##1 make_##name##1(T x) { return {x}; }                 \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATOR_VECTORS(signed char, char, 2, 4)
EMULATOR_VECTORS(unsigned char, uchar, 2, 4)
EMULATOR_VECTORS(short, short, 4, 8)
EMULATOR_VECTORS(unsigned short, ushort, 4, 8)
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(unsigned, uint, 8, 16)
EMULATOR_VECTORS(long long, longlong, 16, 16)
EMULATOR_VECTORS(unsigned long long, ulonglong, 16, 16)
EMULATOR_VECTORS(float, float, 8, 16)
EMULATOR_VECTORS(double, double, 16, 16)
#undef EMULATOR_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// --- Where a thread is ---

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace emulator {

static char* dynamic_shared;
static const Runtime* runtime;
__shared__ __attribute__((used)) char section_is_never_empty;

static const Library library = {reinterpret_cast<Index*>(&threadIdx),
                                reinterpret_cast<Index*>(&blockIdx),
                                reinterpret_cast<Index*>(&blockDim),
                                reinterpret_cast<Index*>(&gridDim),
                                &dynamic_shared,
                                emulator_shared_begin,
                                emulator_shared_end,
                                &runtime};

// --- How the driver calls a kernel whose parameters only the kernel's library knows ---

struct Call {
  template <class... P>
  Call(void (*kernel)(P...), P... values) {
    kernel(values...);
  }
};

template <class... P>
void invoke(void (*function)(), void** parameters) {
  // The elements of a braced list are evaluated from left to right.
  Call{reinterpret_cast<void (*)(P...)>(function), *static_cast<P*>(*parameters++)...};
}

template <class... P>
constexpr unsigned sizes[] = {sizeof(P)..., 0};

template <class... P>
Kernel describe(void (*kernel)(P...)) {
  return {reinterpret_cast<void (*)()>(kernel), invoke<P...>, sizes<P...>, int(sizeof...(P)),
          &library};
}

template <class To, class From>
inline To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "the same number of bits");
  To result;
  __builtin_memcpy(&result, &value, sizeof result);
  return result;
}

inline int lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize;
}

}  // namespace emulator

// --- Barriers and warp collectives: threads meet in the same call, found by its line ---

#define EMULATOR_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATOR_HERE) {
  emulator::runtime->barrier("__syncthreads", false, file, line);
}
inline int __syncthreads_count(int predicate, EMULATOR_HERE) {
  return emulator::runtime->barrier("__syncthreads_count", predicate, file, line);
}
inline int __syncthreads_or(int predicate, EMULATOR_HERE) {
  return emulator::runtime->barrier("__syncthreads_or", predicate, file, line) != 0;
}
inline int __syncthreads_and(int predicate, EMULATOR_HERE) {
  return emulator::runtime->barrier("__syncthreads_and", !predicate, file, line) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffff, EMULATOR_HERE) {
  emulator::runtime->collective("__syncwarp", mask, 0, -1, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATOR_HERE) {
  return emulator::runtime->collective("__ballot_sync", mask, predicate != 0, -1, file, line);
}
inline int __any_sync(unsigned mask, int predicate, EMULATOR_HERE) {
  return emulator::runtime->collective("__any_sync", mask, predicate != 0, -1, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATOR_HERE) {
  return emulator::runtime->collective("__all_sync", mask, predicate == 0, -1, file, line) == 0;
}
inline unsigned __activemask() { return emulator::runtime->active(); }

namespace emulator {

template <int bytes>
struct Word;
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<8> {
  using type = unsigned long long;
};

template <class T>
T shuffle(const char* what, unsigned mask, T value, int source, const char* file, int line) {
  using Bits = typename Word<sizeof(T)>::type;
  return bits<T>(Bits(runtime->collective(what, mask, bits<Bits>(value), source, file, line)));
}

}  // namespace emulator

// `width` splits the warp into segments; a lane with no source in its segment keeps its value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, EMULATOR_HERE) {
  const int first = emulator::lane() & ~(width - 1);
  return emulator::shuffle("__shfl_sync", mask, value, first | (source & (width - 1)), file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, EMULATOR_HERE) {
  const int lane = emulator::lane(), first = lane & ~(width - 1), source = lane - int(delta);
  return emulator::shuffle("__shfl_up_sync", mask, value, source < first ? lane : source, file,
                           line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, EMULATOR_HERE) {
  const int lane = emulator::lane(), last = lane | (width - 1), source = lane + int(delta);
  return emulator::shuffle("__shfl_down_sync", mask, value, source > last ? lane : source, file,
                           line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flips, int width = warpSize, EMULATOR_HERE) {
  const int lane = emulator::lane(), last = lane | (width - 1), source = lane ^ flips;
  return emulator::shuffle("__shfl_xor_sync", mask, value, source > last ? lane : source, file,
                           line);
}
#undef EMULATOR_HERE

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <class T>
T __ldg(const T* address) {
  return *address;
}

// --- Atomic operations: each returns the old value ---

#define EMULATOR_ATOMIC(name, T, expression) \
  inline T name(T* address, T value) {       \
    const T old = *address;                  \
    *address = (expression);                 \
    return old;                              \
  }
#define EMULATOR_ATOMIC_INTEGER(T)                         \
  EMULATOR_ATOMIC(atomicAdd, T, old + value)               \
  EMULATOR_ATOMIC(atomicExch, T, value)                    \
  EMULATOR_ATOMIC(atomicMax, T, old > value ? old : value) \
  EMULATOR_ATOMIC(atomicMin, T, old < value ? old : value) \
  EMULATOR_ATOMIC(atomicAnd, T, old& value)                \
  EMULATOR_ATOMIC(atomicOr, T, old | value)                \
  EMULATOR_ATOMIC(atomicXor, T, old ^ value)               \
  inline T atomicCAS(T* address, T expected, T value) {    \
    const T old = *address;                                \
    if (old == expected) *address = value;                 \
    return old;                                            \
  }
EMULATOR_ATOMIC_INTEGER(int)
EMULATOR_ATOMIC_INTEGER(unsigned)
EMULATOR_ATOMIC_INTEGER(unsigned long long)
EMULATOR_ATOMIC(atomicMax, long long, old > value ? old : value)
EMULATOR_ATOMIC(atomicMin, long long, old < value ? old : value)
EMULATOR_ATOMIC(atomicSub, int, old - value)
EMULATOR_ATOMIC(atomicSub, unsigned, old - value)
EMULATOR_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
EMULATOR_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
EMULATOR_ATOMIC(atomicAdd, float, old + value)
EMULATOR_ATOMIC(atomicExch, float, value)
EMULATOR_ATOMIC(atomicAdd, double, old + value)
#undef EMULATOR_ATOMIC_INTEGER
#undef EMULATOR_ATOMIC

// --- Mathematical functions ---

#define EMULATOR_UNARY(name)         \
  extern "C" double name(double x);  \
  extern "C" float name##f(float x); \
  inline float name(float x) { return name##f(x); }
#define EMULATOR_BINARY(name)                 \
  extern "C" double name(double x, double y); \
  extern "C" float name##f(float x, float y); \
  inline float name(float x, float y) { return name##f(x, y); }
EMULATOR_UNARY(exp)
EMULATOR_UNARY(exp2)
EMULATOR_UNARY(expm1)
EMULATOR_UNARY(log)
EMULATOR_UNARY(log2)
EMULATOR_UNARY(log10)
EMULATOR_UNARY(log1p)
EMULATOR_UNARY(sqrt)
EMULATOR_UNARY(cbrt)
EMULATOR_UNARY(sin)
EMULATOR_UNARY(cos)
EMULATOR_UNARY(tan)
EMULATOR_UNARY(asin)
EMULATOR_UNARY(acos)
EMULATOR_UNARY(atan)
EMULATOR_UNARY(sinh)
EMULATOR_UNARY(cosh)
EMULATOR_UNARY(tanh)
EMULATOR_UNARY(asinh)
EMULATOR_UNARY(acosh)
EMULATOR_UNARY(atanh)
EMULATOR_UNARY(erf)
EMULATOR_UNARY(erfc)
EMULATOR_UNARY(lgamma)
EMULATOR_UNARY(tgamma)
EMULATOR_UNARY(fabs)
EMULATOR_UNARY(floor)
EMULATOR_UNARY(ceil)
EMULATOR_UNARY(trunc)
EMULATOR_UNARY(round)
EMULATOR_UNARY(rint)
EMULATOR_UNARY(nearbyint)
EMULATOR_BINARY(pow)
EMULATOR_BINARY(fmod)
EMULATOR_BINARY(remainder)
EMULATOR_BINARY(fmax)
EMULATOR_BINARY(fmin)
EMULATOR_BINARY(fdim)
EMULATOR_BINARY(atan2)
EMULATOR_BINARY(hypot)
EMULATOR_BINARY(copysign)
EMULATOR_BINARY(nextafter)
#undef EMULATOR_UNARY
#undef EMULATOR_BINARY

extern "C" double fma(double x, double y, double z);
extern "C" float fmaf(float x, float y, float z);
extern "C" double ldexp(double x, int exponent);
extern "C" float ldexpf(float x, int exponent);
extern "C" double frexp(double x, int* exponent);
extern "C" float frexpf(float x, int* exponent);
extern "C" int abs(int x);
extern "C" long long llabs(long long x);
extern "C" int printf(const char* format, ...);

inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }
inline long long abs(long long x) { return llabs(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float exp10f(float x) { return powf(10.0f, x); }
inline double exp10(double x) { return pow(10.0, x); }
inline void sincosf(float x, float* sine, float* cosine) { *sine = sinf(x), *cosine = cosf(x); }
inline void sincos(double x, double* sine, double* cosine) { *sine = sin(x), *cosine = cos(x); }
inline float sinpif(float x) { return float(sin(3.14159265358979323846 * remainder(x, 2.0))); }
inline float cospif(float x) { return float(cos(3.14159265358979323846 * remainder(x, 2.0))); }

inline void sincospi(double x, double* sine, double* cosine) {
  sincos(3.14159265358979323846 * remainder(x, 2.0), sine, cosine);
}
inline void sincospif(float x, float* sine, float* cosine) {
  *sine = sinpif(x), *cosine = cospif(x);
}

#define EMULATOR_CLASSIFY(T)                                  \
  inline bool isnan(T x) { return __builtin_isnan(x); }       \
  inline bool isinf(T x) { return __builtin_isinf(x); }       \
  inline bool isfinite(T x) { return __builtin_isfinite(x); } \
  inline bool signbit(T x) { return __builtin_signbit(x); }
EMULATOR_CLASSIFY(float)
EMULATOR_CLASSIFY(double)
#undef EMULATOR_CLASSIFY

#define EMULATOR_MIN_MAX(T)                        \
  inline T min(T x, T y) { return y < x ? y : x; } \
  inline T max(T x, T y) { return x < y ? y : x; }
EMULATOR_MIN_MAX(int)
EMULATOR_MIN_MAX(unsigned)
EMULATOR_MIN_MAX(long)
EMULATOR_MIN_MAX(unsigned long)
EMULATOR_MIN_MAX(long long)
EMULATOR_MIN_MAX(unsigned long long)
#undef EMULATOR_MIN_MAX
inline float min(float x, float y) { return fminf(x, y); }
inline float max(float x, float y) { return fmaxf(x, y); }
inline double min(double x, double y) { return fmin(x, y); }
inline double max(double x, double y) { return fmax(x, y); }

// The fast approximations are exact here: a test's tolerance has to allow for the device's.
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline void __sincosf(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline double __dsqrt_rn(double x) { return sqrt(x); }

// --- Bits and conversions ---

inline int __float_as_int(float x) { return emulator::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::bits<double>(x); }
inline int __float2int_rn(float x) { return int(rintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline int __float2int_rd(float x) { return int(floorf(x)); }
inline int __float2int_ru(float x) { return int(ceilf(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __mulhi(int x, int y) { return int((long long)x * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) {
  return unsigned((unsigned long long)x * y >> 32);
}
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int bit = 0; bit < 32; ++bit) result |= (x >> bit & 1) << (31 - bit);
  return result;
}
