// Allocations and copies. A device's memory is the host's, but each allocation lies against a page that
// cannot be touched and is gone when freed, and a table tells what is whose.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <string>

#include "emulator.h"

namespace emulator {
namespace {

constexpr size_t unit = 512;  // what cudaMalloc aligns to

std::map<uintptr_t, Block> blocks;
std::map<int, size_t> used;
std::deque<std::pair<char *, size_t>> freed;

size_t from_environment() {
  const char *text = getenv("EMULATOR_MEMORY");
  return text ? strtoull(text, nullptr, 10) : size_t{8} << 30;
}
size_t limit = from_environment();

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

cudaError_t allocate(void **pointer, size_t size, Kind kind) {
  *pointer = nullptr;
  if (cudaError_t error = context()) return error;
  if (size == 0) return cudaSuccess;
  size_t rounded = round_up(size, unit), page = sysconf(_SC_PAGESIZE);
  int device = current_device();
  if (kind != Kind::pinned && (rounded > limit || used[device] > limit - rounded))
    return cudaErrorMemoryAllocation;
  size_t body = round_up(rounded, page), mapped = body + page;
  char *mapping = static_cast<char *>(
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (mapping == MAP_FAILED) return cudaErrorMemoryAllocation;
  mprotect(mapping + body, page, PROT_NONE);
  char *base = mapping + body - rounded;
  memset(base, 0xFF, rounded);  // NaN: the use of memory never written shows
  blocks[reinterpret_cast<uintptr_t>(base)] = {base, size, kind, device, mapping, mapped};
  if (kind != Kind::pinned) used[device] += rounded;
  *pointer = base;
  return cudaSuccess;
}

cudaError_t release(void *pointer, bool pinned) {
  if (!pointer) return cudaSuccess;
  auto found = blocks.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == blocks.end() || !found->second.mapping || (found->second.kind == Kind::pinned) != pinned)
    return cudaErrorInvalidValue;
  Block block = found->second;
  blocks.erase(found);
  if (!pinned) used[block.device] -= round_up(block.size, unit);
  // its addresses are not given out again at once, so that a late access faults
  mmap(block.mapping, block.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
       0);
  freed.push_back({block.mapping, block.mapped});
  if (freed.size() > 256) {
    munmap(freed.front().first, freed.front().second);
    freed.pop_front();
  }
  return cudaSuccess;
}

enum class Side { host, device, either };

bool fits(const void *pointer, size_t size, Side side) {
  const Block *block = find_block(pointer);
  if (!block) return side != Side::device;
  if (static_cast<const char *>(pointer) + size > block->base + block->size) return false;
  if (side == Side::device) return block->kind != Kind::pinned;
  return side != Side::host || block->kind != Kind::device;
}

cudaError_t check_copy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
  if (size == 0) return cudaSuccess;
  Side target, source;
  switch (kind) {
    case cudaMemcpyHostToHost: target = source = Side::host; break;
    case cudaMemcpyHostToDevice: target = Side::device, source = Side::host; break;
    case cudaMemcpyDeviceToHost: target = Side::host, source = Side::device; break;
    case cudaMemcpyDeviceToDevice: target = source = Side::device; break;
    case cudaMemcpyDefault: target = source = Side::either; break;
    default: return cudaErrorInvalidMemcpyDirection;
  }
  return fits(to, size, target) && fits(from, size, source) ? cudaSuccess : cudaErrorInvalidValue;
}

// A copy may be put off only when all of its host memory is pinned.
bool is_pageable(const void *pointer) { return !find_block(pointer); }

cudaError_t copy_async(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t handle) {
  EMULATOR_TRY(check_copy(to, from, size, kind));
  Stream *stream = find_stream(handle);
  if (!stream) return fail(cudaErrorInvalidResourceHandle);
  auto copy = [=] {
    // once more, for memory freed since
    if (cudaError_t error = check_copy(to, from, size, kind)) return error;
    memmove(to, from, size);
    return cudaSuccess;
  };
  if (is_pageable(to)) {
    // the call returns when the copy is done: a wait that a capture forbids
    EMULATOR_TRY(not_in_capture(stream));
    EMULATOR_TRY(submit(stream, copy));
    return fail(synchronize(stream));
  }
  if (is_pageable(from)) {
    // read before the call returns, through a buffer of the driver's
    EMULATOR_TRY(not_in_capture(stream));
    auto buffer = std::make_shared<std::string>(static_cast<const char *>(from), size);
    return fail(submit(stream, [=] {
      if (!fits(to, size, Side::either)) return cudaErrorIllegalAddress;
      memcpy(to, buffer->data(), size);
      return cudaSuccess;
    }));
  }
  return fail(submit(stream, copy));
}

cudaError_t copy_now(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
  EMULATOR_TRY(check_copy(to, from, size, kind));
  EMULATOR_TRY(potentially_unsafe());
  Stream *legacy = find_stream(nullptr);
  EMULATOR_TRY(submit(legacy, [=] {
    memmove(to, from, size);
    return cudaSuccess;
  }));
  return fail(synchronize(legacy));
}

Operation rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height) {
  return [=] {
    for (size_t i = 0; i < height; ++i)
      memmove(static_cast<char *>(to) + i * to_pitch, static_cast<const char *>(from) + i * from_pitch,
              width);
    return cudaSuccess;
  };
}

cudaError_t set_async(void *pointer, int value, size_t size, cudaStream_t handle) {
  if (size && !fits(pointer, size, Side::device)) return fail(cudaErrorInvalidValue);
  Stream *stream = find_stream(handle);
  if (!stream) return fail(cudaErrorInvalidResourceHandle);
  return fail(submit(stream, [=] {
    if (size && !fits(pointer, size, Side::device)) return cudaErrorIllegalAddress;
    memset(pointer, value, size);
    return cudaSuccess;
  }));
}

}  // namespace

const Block *find_block(const void *pointer) {
  auto after = blocks.upper_bound(reinterpret_cast<uintptr_t>(pointer));
  if (after == blocks.begin()) return nullptr;
  const Block &block = std::prev(after)->second;
  return static_cast<const char *>(pointer) < block.base + block.size ? &block : nullptr;
}

bool on_device(const void *pointer, size_t size) { return fits(pointer, size, Side::device); }

void register_global(void *pointer, size_t size) {
  char *base = static_cast<char *>(pointer);
  blocks[reinterpret_cast<uintptr_t>(base)] = {base, size, Kind::device, current_device(), nullptr, 0};
}

}  // namespace emulator

using namespace emulator;

extern "C" {

// For tests of running out of memory.
void emulator_set_memory_limit(size_t bytes) {
  Lock lock;
  limit = bytes;
}

// Is [pointer, pointer + size) memory of a device? For the fake libraries, whose real ones would fault.
int emulator_on_device(const void *pointer, size_t size) {
  Lock lock;
  return on_device(pointer, size);
}

cudaError_t cudaMalloc(void **pointer, size_t size) {
  Lock lock;
  EMULATOR_TRY(potentially_unsafe());
  return fail(allocate(pointer, size, Kind::device));
}

cudaError_t cudaMallocManaged(void **pointer, size_t size, unsigned) {
  Lock lock;
  EMULATOR_TRY(potentially_unsafe());
  return fail(allocate(pointer, size, Kind::managed));
}

cudaError_t cudaFree(void *pointer) {
  Lock lock;
  if (!pointer) return cudaSuccess;
  EMULATOR_TRY(potentially_unsafe());
  EMULATOR_TRY(synchronize_device(-1));
  return fail(release(pointer, false));
}

cudaError_t cudaMallocAsync(void **pointer, size_t size, cudaStream_t handle) {
  Lock lock;
  Stream *stream = find_stream(handle);
  if (!stream) return fail(cudaErrorInvalidResourceHandle);
  EMULATOR_TRY(not_in_capture(stream));  // CUDA makes it a node of the graph; not emulated
  return fail(allocate(pointer, size, Kind::device));
}

cudaError_t cudaFreeAsync(void *pointer, cudaStream_t handle) {
  Lock lock;
  Stream *stream = find_stream(handle);
  if (!stream) return fail(cudaErrorInvalidResourceHandle);
  EMULATOR_TRY(not_in_capture(stream));
  return fail(submit(stream, [=] { return release(pointer, false); }));
}

cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned) {
  Lock lock;
  EMULATOR_TRY(potentially_unsafe());
  return fail(allocate(pointer, size, Kind::pinned));
}

cudaError_t cudaMallocHost(void **pointer, size_t size) { return cudaHostAlloc(pointer, size, 0); }

cudaError_t cudaFreeHost(void *pointer) {
  Lock lock;
  if (!pointer) return cudaSuccess;
  EMULATOR_TRY(potentially_unsafe());
  EMULATOR_TRY(synchronize_device(-1));
  return fail(release(pointer, true));
}

cudaError_t cudaHostRegister(void *pointer, size_t size, unsigned) {
  Lock lock;
  if (find_block(pointer)) return fail(cudaErrorHostMemoryAlreadyRegistered);
  char *base = static_cast<char *>(pointer);
  blocks[reinterpret_cast<uintptr_t>(base)] = {base, size, Kind::pinned, current_device(), nullptr, 0};
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *pointer) {
  Lock lock;
  auto found = blocks.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == blocks.end() || found->second.mapping) return fail(cudaErrorHostMemoryNotRegistered);
  EMULATOR_TRY(synchronize_device(-1));
  blocks.erase(found);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  Lock lock;
  size_t taken = used[current_device()];
  *available = taken < limit ? limit - taken : 0;
  *total = limit;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  Lock lock;
  const Block *block = find_block(pointer);
  memset(attributes, 0, sizeof *attributes);
  void *address = const_cast<void *>(pointer);
  if (!block) {
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = cudaInvalidDeviceId;
    attributes->hostPointer = address;
    return cudaSuccess;
  }
  attributes->device = block->device;
  attributes->devicePointer = address;
  attributes->hostPointer = block->kind == Kind::device ? nullptr : address;
  attributes->type = block->kind == Kind::device   ? cudaMemoryTypeDevice
                     : block->kind == Kind::pinned ? cudaMemoryTypeHost
                                                   : cudaMemoryTypeManaged;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
  Lock lock;
  return copy_now(to, from, size, kind);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Lock lock;
  return copy_async(to, from, size, kind, stream);
}

cudaError_t cudaMemcpyPeer(void *to, int, const void *from, int, size_t size) {
  Lock lock;
  return copy_now(to, from, size, cudaMemcpyDeviceToDevice);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t size, cudaStream_t stream) {
  Lock lock;
  return copy_async(to, from, size, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                         size_t height, cudaMemcpyKind kind) {
  Lock lock;
  if (width > to_pitch || width > from_pitch) return fail(cudaErrorInvalidPitchValue);
  if (width == 0 || height == 0) return cudaSuccess;
  EMULATOR_TRY(check_copy(to, from, width, kind));
  EMULATOR_TRY(check_copy(static_cast<char *>(to) + (height - 1) * to_pitch,
                          static_cast<const char *>(from) + (height - 1) * from_pitch, width, kind));
  EMULATOR_TRY(potentially_unsafe());
  Stream *legacy = find_stream(nullptr);
  EMULATOR_TRY(submit(legacy, rows(to, to_pitch, from, from_pitch, width, height)));
  return fail(synchronize(legacy));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t handle) {
  Lock lock;
  if (width > to_pitch || width > from_pitch) return fail(cudaErrorInvalidPitchValue);
  if (width == 0 || height == 0) return cudaSuccess;
  EMULATOR_TRY(check_copy(to, from, width, kind));
  EMULATOR_TRY(check_copy(static_cast<char *>(to) + (height - 1) * to_pitch,
                          static_cast<const char *>(from) + (height - 1) * from_pitch, width, kind));
  Stream *stream = find_stream(handle);
  if (!stream) return fail(cudaErrorInvalidResourceHandle);
  bool pageable = is_pageable(to) || is_pageable(from);
  if (pageable) EMULATOR_TRY(not_in_capture(stream));
  EMULATOR_TRY(submit(stream, rows(to, to_pitch, from, from_pitch, width, height)));
  return fail(pageable ? synchronize(stream) : cudaSuccess);
}

cudaError_t cudaMemset(void *pointer, int value, size_t size) {
  Lock lock;
  EMULATOR_TRY(potentially_unsafe());
  return set_async(pointer, value, size, nullptr);
}

cudaError_t cudaMemsetAsync(void *pointer, int value, size_t size, cudaStream_t stream) {
  Lock lock;
  return set_async(pointer, value, size, stream);
}

}  // extern "C"
