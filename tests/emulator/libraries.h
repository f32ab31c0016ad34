// What the fake libraries share.
#pragma once

#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdio>
#include <type_traits>

extern "C" int emulator_submit(void *stream, void (*run)(const void *args), const void *args, size_t size);
extern "C" int emulator_on_device(const void *pointer, size_t size);

// f() now or later: it must hold all it needs by value. False: CUDA refused.
template <class F>
bool submit(cudaStream_t stream, F f) {
  static_assert(std::is_trivially_copyable_v<F>);
  return !emulator_submit(stream, [](const void *args) { (*static_cast<const F *>(args))(); }, &f, sizeof f);
}
