// A fake cuRAND: element i of a generator's sequence is a hash of its seed and of i, whatever its type.
#include "declarations.h"

#include <cmath>
#include <cstdint>

#include "libraries.h"

namespace {

struct Generator {
  cudaStream_t stream = nullptr;
  uint64_t seed = 0, offset = 0;
};

Generator *get(curandGenerator_t generator) { return reinterpret_cast<Generator *>(generator); }

// the finaliser of SplitMix64 (Steele, Lea, Flood 2014), twice
uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}
uint64_t bits(uint64_t seed, uint64_t i) {
  return mix(mix(seed + 0x9e3779b97f4a7c15) + i * 0x9e3779b97f4a7c15);
}

// (0, 1], as cuRAND's
double uniform(uint64_t seed, uint64_t i) { return ((bits(seed, i) >> 11) + 1) * 0x1p-53; }

double normal(uint64_t seed, uint64_t i) {
  // Box and Muller 1958: elements 2 j and 2 j + 1 share a radius
  double radius = std::sqrt(-2 * std::log(uniform(seed, i & ~1ull)));
  double angle = 2 * M_PI * uniform(seed, i | 1);
  return radius * (i & 1 ? std::sin(angle) : std::cos(angle));
}

template <class T, class F>
curandStatus_t generate(curandGenerator_t handle, T *to, size_t n, F value) {
  Generator *generator = get(handle);
  uint64_t seed = generator->seed, offset = generator->offset;
  generator->offset += n;
  return submit(generator->stream,
                [=] {
                  for (size_t i = 0; i < n; ++i) to[i] = value(seed, offset + i);
                })
             ? CURAND_STATUS_SUCCESS
             : CURAND_STATUS_LAUNCH_FAILURE;
}

// float's uniform numbers must not round down to 0
template <class T>
T to_uniform(uint64_t seed, uint64_t i) {
  return std::is_same_v<T, float> ? ((bits(seed, i) >> 40) + 1) * 0x1p-24 : uniform(seed, i);
}

}  // namespace

extern "C" {

curandStatus_t curandGetVersion(int *version) {
  *version = CURAND_VERSION;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandCreateGenerator(curandGenerator_t *generator, curandRngType_t) {
  *generator = reinterpret_cast<curandGenerator_t>(new Generator);
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
  delete get(generator);
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetStream(curandGenerator_t generator, cudaStream_t stream) {
  get(generator)->stream = stream;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator, unsigned long long seed) {
  get(generator)->seed = seed;
  get(generator)->offset = 0;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOffset(curandGenerator_t generator, unsigned long long offset) {
  get(generator)->offset = offset;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOrdering(curandGenerator_t, curandOrdering_t) {
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandGenerate(curandGenerator_t generator, unsigned *to, size_t n) {
  return generate(generator, to, n,
                  [](uint64_t seed, uint64_t i) { return static_cast<unsigned>(bits(seed, i)); });
}
curandStatus_t curandGenerateLongLong(curandGenerator_t generator, unsigned long long *to, size_t n) {
  return generate(generator, to, n, [](uint64_t seed, uint64_t i) { return bits(seed, i); });
}

#define FOR_TYPE(T, Suffix) \
  curandStatus_t curandGenerateUniform##Suffix(curandGenerator_t generator, T *to, size_t n) { \
    return generate(generator, to, n, to_uniform<T>); \
  } \
  curandStatus_t curandGenerateNormal##Suffix(curandGenerator_t generator, T *to, size_t n, T mean, \
                                              T stddev) { \
    /* cuRAND makes normal numbers in pairs */ \
    if (n % 2) return CURAND_STATUS_LENGTH_NOT_MULTIPLE; \
    return generate(generator, to, n, \
                    [=](uint64_t seed, uint64_t i) { return T(mean + stddev * normal(seed, i)); }); \
  } \
  curandStatus_t curandGenerateLogNormal##Suffix(curandGenerator_t generator, T *to, size_t n, T mean, \
                                                 T stddev) { \
    if (n % 2) return CURAND_STATUS_LENGTH_NOT_MULTIPLE; \
    return generate(generator, to, n, [=](uint64_t seed, uint64_t i) { \
      return T(std::exp(mean + stddev * normal(seed, i))); \
    }); \
  }
FOR_TYPE(float, )
FOR_TYPE(double, Double)

}  // extern "C"
