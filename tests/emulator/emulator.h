// What the parts of the library share. The public CUDA functions are defined under their own names and
// signatures, which NVIDIA's headers check.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace emulator {

// One lock around everything: CuPy releases Python's lock in its calls, and the threads of a kernel, the
// state of streams and the tables are global.
class Lock {
 public:
  Lock();
  ~Lock();
};
class Unlock {  // for callbacks into Python, which may wait for a thread that waits for us
 public:
  Unlock();
  ~Unlock();

 private:
  int depth_;
};

cudaError_t fail(cudaError_t error);  // what cudaGetLastError will say, in this thread
// Every call that needs a context begins here: error in a process forked after the first such call.
cudaError_t context();
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- devices
int device_count();
int current_device();

// ---- memory
enum class Kind { device, pinned, managed };
struct Block {
  char *base;
  size_t size;
  Kind kind;
  int device;
  char *mapping;
  size_t mapped;
};
const Block *find_block(const void *pointer);
// Is [pointer, pointer + size) within one block that a kernel may use?
bool on_device(const void *pointer, size_t size);
void register_global(void *pointer, size_t size);

// ---- streams
using Operation = std::function<cudaError_t()>;
struct Stream;
Stream *find_stream(cudaStream_t handle);  // nullptr: no such stream
int device_of(Stream *stream);
// Runs at once; or records, or queues (see stream.cpp).
cudaError_t submit(Stream *stream, Operation operation);
// For what waits for the work of a stream, or of everything: error while it is being captured.
cudaError_t synchronize(Stream *stream);
cudaError_t synchronize_device(int device);
// For calls that CUDA forbids during a capture, unless its mode is relaxed.
cudaError_t potentially_unsafe();
// For calls that a capture of this stream cannot take.
cudaError_t not_in_capture(Stream *stream);

// ---- execution
// Runs it so that an access to memory that is not there becomes cudaErrorIllegalAddress.
cudaError_t guarded(const Operation &operation);

}  // namespace emulator

#define EMULATOR_TRY(expression) \
  do { \
    if (cudaError_t error_ = (expression)) return emulator::fail(error_); \
  } while (0)
