// The device's description, errors, and the lock.
#include <pthread.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "emulator.h"

namespace emulator {
namespace {

std::recursive_mutex mutex;
bool initialized = false, forked = false;

// A child must not inherit the lock in the hands of a thread that it does not have.
const int at_fork = pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); },
                                   [] {
                                     forked = initialized;
                                     // made anew: it belongs to a thread that the child does not have
                                     new (&mutex) std::recursive_mutex;
                                   });

thread_local int depth = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int device = 0;

struct Name {
  const char *name, *text;
};
#define NAME(code, text) \
  { \
    code, { #code, text } \
  }
const std::map<int, Name> names = {
    NAME(cudaSuccess, "no error"),
    NAME(cudaErrorInvalidValue, "invalid argument"),
    NAME(cudaErrorMemoryAllocation, "out of memory"),
    NAME(cudaErrorInitializationError, "initialization error"),
    NAME(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    NAME(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    NAME(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    NAME(cudaErrorInvalidDevice, "invalid device ordinal"),
    NAME(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    NAME(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    NAME(cudaErrorNotReady, "device not ready"),
    NAME(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    NAME(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    NAME(cudaErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    NAME(cudaErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped"),
    NAME(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
    NAME(cudaErrorLaunchFailure, "unspecified launch failure"),
    NAME(cudaErrorAssert, "device-side assert triggered"),
    NAME(cudaErrorNotSupported, "operation not supported"),
    NAME(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    NAME(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    NAME(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
    NAME(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    NAME(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    NAME(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    NAME(cudaErrorStreamCaptureImplicit,
         "operation would make the legacy stream depend on a capturing blocking stream"),
    NAME(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    NAME(cudaErrorStreamCaptureWrongThread,
         "attempt to terminate a thread-local capture sequence from another thread"),
};

Name name_of(int code) {
  auto found = names.find(code);
  return found == names.end() ? Name{"cudaErrorUnknown", "an error that the emulator has no name for"}
                              : found->second;
}

cudaDeviceProp properties_of(int ordinal) {
  size_t available, total;
  cudaMemGetInfo(&available, &total);
  cudaDeviceProp p;
  memset(&p, 0, sizeof p);
  strcpy(p.name, "Emulated GPU");
  p.totalGlobalMem = total;
  p.sharedMemPerBlock = 48 << 10;
  p.sharedMemPerBlockOptin = 227 << 10;
  p.sharedMemPerMultiprocessor = 228 << 10;
  p.reservedSharedMemPerBlock = 1 << 10;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.memPitch = 0x7fffffff;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsPerMultiProcessor = 2048;
  p.maxBlocksPerMultiProcessor = 32;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.totalConstMem = 64 << 10;
  p.major = 9;
  p.minor = 0;
  p.multiProcessorCount = 132;
  p.textureAlignment = 512;
  p.texturePitchAlignment = 32;
  p.surfaceAlignment = 512;
  p.memoryBusWidth = 5120;
  p.l2CacheSize = 50 << 20;
  p.asyncEngineCount = 3;
  p.concurrentKernels = p.unifiedAddressing = p.managedMemory = p.canMapHostMemory = 1;
  p.streamPrioritiesSupported = p.globalL1CacheSupported = p.localL1CacheSupported = 1;
  p.pciBusID = ordinal + 1;
  for (size_t i = 0; i < sizeof p.uuid.bytes; ++i) p.uuid.bytes[i] = static_cast<char>(i + ordinal);
  return p;
}

bool exists(int ordinal) { return ordinal >= 0 && ordinal < device_count(); }

}  // namespace

Lock::Lock() {
  mutex.lock();
  ++depth;
}
Lock::~Lock() {
  --depth;
  mutex.unlock();
}
Unlock::Unlock() : depth_(depth) {
  for (int i = 0; i < depth_; ++i) mutex.unlock();
  depth = 0;
}
Unlock::~Unlock() {
  for (int i = 0; i < depth_; ++i) mutex.lock();
  depth = depth_;
}

cudaError_t context() {
  initialized = true;
  return forked ? cudaErrorInitializationError : cudaSuccess;
}

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fflush(stdout);
  fputs("emulator: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

int device_count() {
  static int count = getenv("EMULATOR_DEVICES") ? atoi(getenv("EMULATOR_DEVICES")) : 1;
  return count;
}

int current_device() { return device; }

}  // namespace emulator

using namespace emulator;

extern "C" {

// What every call that the emulator does not know ends in (symbols.py, build.py).
int emulator_missing(const char *name) {
  say("%s is not emulated", name);
  return fail(cudaErrorNotSupported);
}

const char *cudaGetErrorName(cudaError_t error) { return name_of(error).name; }
const char *cudaGetErrorString(cudaError_t error) { return name_of(error).text; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  if (forked) return fail(cudaErrorInitializationError);
  *count = device_count();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *ordinal) {
  *ordinal = device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int ordinal) {
  if (!exists(ordinal)) return fail(cudaErrorInvalidDevice);
  device = ordinal;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int ordinal) {
  if (!exists(ordinal)) return fail(cudaErrorInvalidDevice);
  *properties = properties_of(ordinal);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int ordinal) {
  if (!exists(ordinal)) return fail(cudaErrorInvalidDevice);
  cudaDeviceProp p = properties_of(ordinal);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxBlockDimX: *value = p.maxThreadsDim[0]; break;
    case cudaDevAttrMaxBlockDimY: *value = p.maxThreadsDim[1]; break;
    case cudaDevAttrMaxBlockDimZ: *value = p.maxThreadsDim[2]; break;
    case cudaDevAttrMaxGridDimX: *value = p.maxGridSize[0]; break;
    case cudaDevAttrMaxGridDimY: *value = p.maxGridSize[1]; break;
    case cudaDevAttrMaxGridDimZ: *value = p.maxGridSize[2]; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = p.sharedMemPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = p.sharedMemPerBlockOptin; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = p.sharedMemPerMultiprocessor; break;
    case cudaDevAttrTotalConstantMemory: *value = p.totalConstMem; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrMaxPitch: *value = p.memPitch; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = p.regsPerBlock; break;
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = p.regsPerMultiprocessor; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = p.maxBlocksPerMultiProcessor; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
    case cudaDevAttrAsyncEngineCount: *value = p.asyncEngineCount; break;
    case cudaDevAttrPciBusId: *value = p.pciBusID; break;
    case cudaDevAttrTextureAlignment: *value = p.textureAlignment; break;
    case cudaDevAttrClockRate: *value = 1755000; break;
    case cudaDevAttrMemoryClockRate: *value = 2619000; break;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
    default: *value = 0;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int ordinal) {
  if (!exists(ordinal)) return fail(cudaErrorInvalidDevice);
  snprintf(text, length, "0000:%02X:00.0", ordinal + 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetByPCIBusId(int *ordinal, const char *text) {
  unsigned bus;
  if (sscanf(text, "%*x:%x", &bus) != 1 || !exists(bus - 1)) return fail(cudaErrorInvalidDevice);
  *ordinal = bus - 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}

// All devices lie in one memory.
cudaError_t cudaDeviceCanAccessPeer(int *can, int from, int to) {
  if (!exists(from) || !exists(to)) return fail(cudaErrorInvalidDevice);
  *can = from != to;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceDisablePeerAccess(int) { return cudaSuccess; }

cudaError_t cudaDeviceGetLimit(size_t *value, cudaLimit) {
  *value = 1024;
  return cudaSuccess;
}
cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

}  // extern "C"
