/* What NVRTC builds in, for g++ on the host: included before every kernel's source.

   A kernel becomes an ordinary function. The library (launch.cpp) calls it once per thread, sets threadIdx
   and blockIdx before, and suspends the thread in the synchronising functions below. Atomics need nothing,
   since the threads of a launch take turns. */
#pragma once

#include <algorithm>
#include <cassert>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>
#include <type_traits>
#include <utility>

#include <vector_types.h>
#include <vector_functions.h>

/* ---- the library's side ------------------------------------------------------------------------------ */

extern "C" {
extern uint3 emulator_thread_index, emulator_block_index;
extern dim3 emulator_block_size, emulator_grid_size;
extern char emulator_shared_memory[];
void emulator_sync_block(void);
void emulator_sync_warp(unsigned mask);
void emulator_put(unsigned mask, const void *value, size_t size);
int emulator_get(int lane, void *value, size_t size);
unsigned emulator_lane(void);
unsigned emulator_lanes(void);
int emulator_count(int predicate);
void emulator_assert(const char *condition, const char *file, int line);
}

#define threadIdx emulator_thread_index
#define blockIdx emulator_block_index
#define blockDim emulator_block_size
#define gridDim emulator_grid_size
constexpr int warpSize = 32;

/* blocks run one after the other, so one static copy is enough */
#define __shared__ static

#undef assert
#define assert(condition) ((condition) ? void() : emulator_assert(#condition, __FILE__, __LINE__))

namespace emulator {

/* `extern __shared__ T name[];` is rewritten (nvrtc.py) to a reference to this memory */
template <class T> T *dynamic_shared() { return reinterpret_cast<T *>(emulator_shared_memory); }

/* How the library calls a kernel whose parameter types it does not know. */
struct Entry {
  void (*call)(void *function, void **parameters);
  void *function;
  int n_parameters;
  const size_t *sizes;
};

template <class... A> struct Caller {
  static constexpr size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
  template <size_t... I> static void spread(void (*f)(A...), void **p, std::index_sequence<I...>) {
    f(*static_cast<std::remove_reference_t<A> *>(p[I])...);
  }
  static void call(void *f, void **p) {
    spread(reinterpret_cast<void (*)(A...)>(f), p, std::index_sequence_for<A...>());
  }
};

template <class... A> Entry entry(void (*f)(A...)) {
  return {Caller<A...>::call, reinterpret_cast<void *>(f), sizeof...(A), Caller<A...>::sizes};
}

}  // namespace emulator

/* ---- synchronisation, warps -------------------------------------------------------------------------- */

inline void __syncthreads() { emulator_sync_block(); }
inline int __syncthreads_count(int p) { return emulator_count(p != 0); }
inline int __syncthreads_or(int p) { return emulator_count(p != 0) != 0; }
inline int __syncthreads_and(int p) { return emulator_count(p == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffff) { emulator_sync_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
inline unsigned __activemask() { return emulator_lanes(); }

namespace emulator {

/* The values of a warp's lanes. A lane that gave none reads as 0xFF bytes, so that using it shows. */
template <class T> struct Lanes {
  static_assert(sizeof(T) <= 16);
  unsigned mask;
  Lanes(unsigned mask, const T &value) : mask(mask) { emulator_put(mask, &value, sizeof value); }
  ~Lanes() { emulator_sync_warp(mask); }
  bool has(int lane) const { return mask >> lane & emulator_lanes() >> lane & 1; }
  T operator[](int lane) const {
    T value;
    emulator_get(lane, &value, sizeof value);
    return value;
  }
};

template <class T, class F> T shuffle(unsigned mask, T value, int width, F source) {
  Lanes<T> lanes(mask, value);
  int lane = emulator_lane(), first = lane & ~(width - 1);
  int from = source(lane, first);
  return from < first || from >= first + width ? value : lanes[from];
}

}  // namespace emulator

template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  return emulator::shuffle(mask, value, width, [=](int, int first) { return first + (from & (width - 1)); });
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle(mask, value, width, [=](int lane, int) { return lane - static_cast<int>(delta); });
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle(mask, value, width, [=](int lane, int) { return lane + static_cast<int>(delta); });
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  return emulator::shuffle(mask, value, width, [=](int lane, int) { return lane ^ bits; });
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  emulator::Lanes<int> lanes(mask, predicate != 0);
  unsigned ballot = 0;
  for (int i = 0; i < 32; ++i)
    if (lanes.has(i) && lanes[i]) ballot |= 1u << i;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T> unsigned __match_any_sync(unsigned mask, T value) {
  emulator::Lanes<T> lanes(mask, value);
  unsigned same = 0;
  for (int i = 0; i < 32; ++i)
    if (lanes.has(i) && lanes[i] == value) same |= 1u << i;
  return same;
}

namespace emulator {
template <class T, class F> T reduce(unsigned mask, T value, F combine) {
  Lanes<T> lanes(mask, value);
  bool any = false;
  T result{};
  for (int i = 0; i < 32; ++i)
    if (lanes.has(i)) result = any ? combine(result, lanes[i]) : lanes[i], any = true;
  return result;
}
}  // namespace emulator
template <class T> T __reduce_add_sync(unsigned mask, T v) {
  return emulator::reduce(mask, v, [](T a, T b) { return a + b; });
}
template <class T> T __reduce_max_sync(unsigned mask, T v) {
  return emulator::reduce(mask, v, [](T a, T b) { return a > b ? a : b; });
}
template <class T> T __reduce_min_sync(unsigned mask, T v) {
  return emulator::reduce(mask, v, [](T a, T b) { return a < b ? a : b; });
}

/* ---- atomics ----------------------------------------------------------------------------------------- */

namespace emulator {
template <class T, class F> T exchange(T *address, F change) {
  T old = *address;
  *address = change(old);
  return old;
}
}  // namespace emulator

#define EMULATOR_ATOMIC(T, name, result) \
  inline T name(T *address, T v) { return emulator::exchange(address, [v](T old) -> T { return result; }); }
#define EMULATOR_ATOMIC_NUMBER(T) \
  EMULATOR_ATOMIC(T, atomicAdd, old + v) \
  EMULATOR_ATOMIC(T, atomicExch, v)
#define EMULATOR_ATOMIC_INTEGER(T) \
  EMULATOR_ATOMIC_NUMBER(T) \
  EMULATOR_ATOMIC(T, atomicSub, old - v) \
  EMULATOR_ATOMIC(T, atomicMin, old < v ? old : v) \
  EMULATOR_ATOMIC(T, atomicMax, old > v ? old : v) \
  EMULATOR_ATOMIC(T, atomicAnd, old & v) \
  EMULATOR_ATOMIC(T, atomicOr, old | v) \
  EMULATOR_ATOMIC(T, atomicXor, old ^ v) \
  inline T atomicCAS(T *address, T compare, T v) { \
    return emulator::exchange(address, [=](T old) { return old == compare ? v : old; }); \
  }
EMULATOR_ATOMIC_INTEGER(int)
EMULATOR_ATOMIC_INTEGER(unsigned)
EMULATOR_ATOMIC_INTEGER(unsigned long long)
EMULATOR_ATOMIC_NUMBER(float)
EMULATOR_ATOMIC_NUMBER(double)
/* CUDA has no atomicAdd for long long; CuPy's atomics.cuh adds it. The rest exists. */
EMULATOR_ATOMIC(long long, atomicMin, old < v ? old : v)
EMULATOR_ATOMIC(long long, atomicMax, old > v ? old : v)
EMULATOR_ATOMIC(unsigned, atomicInc, old >= v ? 0 : old + 1)
EMULATOR_ATOMIC(unsigned, atomicDec, old == 0 || old > v ? v : old - 1)
inline unsigned short atomicCAS(unsigned short *address, unsigned short compare, unsigned short v) {
  return emulator::exchange(address, [=](unsigned short old) { return old == compare ? v : old; });
}

/* ---- arithmetic -------------------------------------------------------------------------------------- */

/* C++ has these overloaded for float in std only, glibc's are for double */
using std::abs; using std::acos; using std::acosh; using std::asin; using std::asinh; using std::atan;
using std::atan2; using std::atanh; using std::cbrt; using std::ceil; using std::copysign; using std::cos;
using std::cosh; using std::erf; using std::erfc; using std::exp; using std::exp2; using std::expm1;
using std::fabs; using std::fdim; using std::floor; using std::fma; using std::fmax; using std::fmin;
using std::fmod; using std::frexp; using std::hypot; using std::ilogb; using std::isfinite; using std::isinf;
using std::isnan; using std::ldexp; using std::lgamma; using std::llrint; using std::llround; using std::log;
using std::log10; using std::log1p; using std::log2; using std::logb; using std::lrint; using std::lround;
using std::modf; using std::nearbyint; using std::nextafter; using std::pow; using std::remainder;
using std::remquo; using std::rint; using std::round; using std::scalbn; using std::signbit; using std::sin;
using std::sinh; using std::sqrt; using std::tan; using std::tanh; using std::tgamma; using std::trunc;

/* CUDA's min and max: a float's other operand may be of another type, and a NaN loses */
#define EMULATOR_MINMAX(T) \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_MINMAX(int)
EMULATOR_MINMAX(unsigned)
EMULATOR_MINMAX(long)
EMULATOR_MINMAX(unsigned long)
EMULATOR_MINMAX(long long)
EMULATOR_MINMAX(unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return ::fmin(a, b); }
inline double max(double a, double b) { return ::fmax(a, b); }
#define EMULATOR_MINMAX_MIXED(A, B, T) \
  inline T min(A a, B b) { return min(static_cast<T>(a), static_cast<T>(b)); } \
  inline T max(A a, B b) { return max(static_cast<T>(a), static_cast<T>(b)); } \
  inline T min(B a, A b) { return min(static_cast<T>(a), static_cast<T>(b)); } \
  inline T max(B a, A b) { return max(static_cast<T>(a), static_cast<T>(b)); }
EMULATOR_MINMAX_MIXED(float, double, double)
EMULATOR_MINMAX_MIXED(int, unsigned, unsigned)
EMULATOR_MINMAX_MIXED(long, unsigned long, unsigned long)
EMULATOR_MINMAX_MIXED(long long, unsigned long long, unsigned long long)

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rcbrt(double x) { return 1 / cbrt(x); }
inline float rcbrtf(float x) { return 1 / cbrtf(x); }
inline float rcbrt(float x) { return rcbrtf(x); }
inline double sinpi(double x) { return sin(3.14159265358979323846 * fmod(x, 2.0)); }
inline double cospi(double x) { return cos(3.14159265358979323846 * fmod(x, 2.0)); }
inline float sinpi(float x) { return sinpi(static_cast<double>(x)); }
inline float cospi(float x) { return cospi(static_cast<double>(x)); }
inline float sinpif(float x) { return sinpi(x); }
inline float cospif(float x) { return cospi(x); }
inline void sincospi(double x, double *s, double *c) { *s = sinpi(x), *c = cospi(x); }
inline void sincospif(float x, float *s, float *c) { *s = sinpi(x), *c = cospi(x); }
inline void sincos(float x, float *s, float *c) { sincosf(x, s, c); }

/* inverse of the normal distribution and of erf: a rational start, then Newton's steps on erf itself */
namespace emulator {
inline double erfinv(double y) {
  if (y <= -1 || y >= 1) return y == 1 ? INFINITY : y == -1 ? -INFINITY : NAN;
  double l = log1p(-y * y), a = 4.330746750799873 + l / 2;  // Winitzki's approximation, a = 0.147
  double x = copysign(sqrt(sqrt(a * a - l / 0.147) - a), y);
  for (int i = 0; i < 4; ++i) x -= (erf(x) - y) / (1.1283791670955126 * exp(-x * x));
  return x;
}
}  // namespace emulator
inline double erfinv(double y) { return emulator::erfinv(y); }
inline float erfinv(float y) { return emulator::erfinv(y); }
inline float erfinvf(float y) { return emulator::erfinv(y); }
inline double erfcinv(double y) { return emulator::erfinv(1 - y); }
inline float erfcinv(float y) { return emulator::erfinv(1 - static_cast<double>(y)); }
inline double normcdf(double x) { return erfc(-x * 0.70710678118654752) / 2; }
inline float normcdf(float x) { return normcdf(static_cast<double>(x)); }
inline float normcdff(float x) { return normcdf(x); }
inline double normcdfinv(double p) { return 1.4142135623730951 * emulator::erfinv(2 * p - 1); }
inline float normcdfinv(float p) { return normcdfinv(static_cast<double>(p)); }
inline float normcdfinvf(float p) { return normcdfinv(p); }
inline double erfcx(double x) { return exp(x * x) * erfc(x); }
inline float erfcx(float x) { return erfcx(static_cast<double>(x)); }
inline float erfcxf(float x) { return erfcx(x); }
inline double cyl_bessel_i0(double x) { return std::cyl_bessel_i(0., fabs(x)); }
inline double cyl_bessel_i1(double x) { return copysign(std::cyl_bessel_i(1., fabs(x)), x); }
inline float cyl_bessel_i0f(float x) { return cyl_bessel_i0(x); }
inline float cyl_bessel_i1f(float x) { return cyl_bessel_i1(x); }

/* approximations and named roundings: the host's own operations */
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0), 1); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

/* conversions: unlike the host's, CUDA's to integers are limited to the type's range, and NaN gives 0 */
namespace emulator {
template <class I> I to_integer(double x) {
  if (std::isnan(x)) return 0;
  if (x <= static_cast<double>(std::numeric_limits<I>::min())) return std::numeric_limits<I>::min();
  if (x >= static_cast<double>(std::numeric_limits<I>::max())) return std::numeric_limits<I>::max();
  return static_cast<I>(x);
}
template <class To, class From> To bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &x, sizeof to);
  return to;
}
}  // namespace emulator
#define EMULATOR_TO_INTEGER(From, prefix, suffix, I) \
  inline I __##prefix##2##suffix##_rn(From x) { return emulator::to_integer<I>(nearbyint(x)); } \
  inline I __##prefix##2##suffix##_rz(From x) { return emulator::to_integer<I>(trunc(x)); } \
  inline I __##prefix##2##suffix##_rd(From x) { return emulator::to_integer<I>(floor(x)); } \
  inline I __##prefix##2##suffix##_ru(From x) { return emulator::to_integer<I>(ceil(x)); }
EMULATOR_TO_INTEGER(float, float, int, int)
EMULATOR_TO_INTEGER(float, float, uint, unsigned)
EMULATOR_TO_INTEGER(float, float, ll, long long)
EMULATOR_TO_INTEGER(float, float, ull, unsigned long long)
EMULATOR_TO_INTEGER(double, double, int, int)
EMULATOR_TO_INTEGER(double, double, uint, unsigned)
EMULATOR_TO_INTEGER(double, double, ll, long long)
EMULATOR_TO_INTEGER(double, double, ull, unsigned long long)
inline float __int2float_rn(int x) { return x; }
inline float __uint2float_rn(unsigned x) { return x; }
inline float __ll2float_rn(long long x) { return x; }
inline float __ull2float_rn(unsigned long long x) { return x; }
inline double __int2double_rn(int x) { return x; }
inline double __ll2double_rn(long long x) { return x; }
inline double __ull2double_rn(unsigned long long x) { return x; }
inline float __double2float_rn(double x) { return x; }
inline int __float_as_int(float x) { return emulator::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::bits<double>(x); }
inline int __double2hiint(double x) { return emulator::bits<long long>(x) >> 32; }
inline int __double2loint(double x) { return static_cast<int>(emulator::bits<long long>(x)); }
inline double __hiloint2double(int high, int low) {
  return emulator::bits<double>(static_cast<long long>(high) << 32 | static_cast<unsigned>(low));
}

/* integers */
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1) << (31 - i);
  return y;
}
inline int __mul24(int x, int y) { return x * y; }
inline unsigned __umul24(unsigned x, unsigned y) { return x * y; }
inline int __mulhi(int x, int y) { return static_cast<long long>(x) * y >> 32; }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned long long>(x) * y >> 32; }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return static_cast<unsigned __int128>(x) * y >> 64;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  unsigned long long bytes = static_cast<unsigned long long>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= (bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n) {
  return (static_cast<unsigned long long>(high) << 32 | low) << (n & 31) >> 32;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) {
  return (static_cast<unsigned long long>(high) << 32 | low) >> (n & 31);
}

/* memory */
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> T __ldca(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldcv(const T *p) { return *p; }
template <class T> void __stcg(T *p, T v) { *p = v; }
template <class T> void __stcs(T *p, T v) { *p = v; }
template <class T> void __stwt(T *p, T v) { *p = v; }

inline long long clock64() {
  static long long ticks;  // no timing here; successive readings only differ
  return ++ticks;
}

/* ---- half precision: NVIDIA's own headers, whose host side has the types, conversions and operators --- */

#define __CUDACC_VER_MAJOR__ 12
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#define __CUDA_ARCH__ 900

/* ... and lacks these. In double precision a product is exact, so that the result is rounded once. */
namespace emulator {
inline __half round_to(double x, __half) { return __double2half(x); }
inline __nv_bfloat16 round_to(double x, __nv_bfloat16) { return __double2bfloat16(x); }
}  // namespace emulator
#define EMULATOR_HALF(T, T2) \
  inline T __hfma(T a, T b, T c) { \
    return emulator::round_to(static_cast<double>(float(a)) * float(b) + float(c), a); \
  } \
  inline T2 __hfma2(T2 a, T2 b, T2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
  EMULATOR_ATOMIC(T, atomicAdd, old + v) \
  inline T2 atomicAdd(T2 *address, T2 v) { \
    return {atomicAdd(&address->x, v.x), atomicAdd(&address->y, v.y)}; \
  }
#define EMULATOR_HALF_FUNCTION(name, T, T2) \
  inline T h##name(T x) { return emulator::round_to(name(static_cast<double>(float(x))), x); } \
  inline T2 h2##name(T2 x) { return {h##name(x.x), h##name(x.y)}; }
#define EMULATOR_HALF_FUNCTIONS(T, T2) \
  EMULATOR_HALF(T, T2) \
  EMULATOR_HALF_FUNCTION(exp, T, T2) EMULATOR_HALF_FUNCTION(exp2, T, T2) \
  EMULATOR_HALF_FUNCTION(log, T, T2) EMULATOR_HALF_FUNCTION(log2, T, T2) \
  EMULATOR_HALF_FUNCTION(sqrt, T, T2) EMULATOR_HALF_FUNCTION(rsqrt, T, T2) \
  EMULATOR_HALF_FUNCTION(sin, T, T2) EMULATOR_HALF_FUNCTION(cos, T, T2) \
  EMULATOR_HALF_FUNCTION(tanh, T, T2) EMULATOR_HALF_FUNCTION(floor, T, T2) \
  EMULATOR_HALF_FUNCTION(ceil, T, T2) EMULATOR_HALF_FUNCTION(rint, T, T2) \
  EMULATOR_HALF_FUNCTION(trunc, T, T2)
EMULATOR_HALF_FUNCTIONS(__half, __half2)
EMULATOR_HALF_FUNCTIONS(__nv_bfloat16, __nv_bfloat162)
inline int __half2int_rn(__half x) { return __float2int_rn(x); }
