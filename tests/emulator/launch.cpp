// Modules and kernels: the driver's part of CUDA (the library bears the name libcuda.so.1 inside).
//
// The threads of a block are run one after the other on a stack of their own. One that waits, at a barrier or
// for its warp, is left there and the next begins on a fresh stack; a thread that never waits gives its stack
// to the next. So a kernel without barriers is a plain loop.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "emulator.h"

#ifndef __x86_64__
#error "the switch of stacks is written for x86-64"
#endif

extern "C" {
// as in cuda_shim.h, which the kernels are compiled with
uint3 emulator_thread_index, emulator_block_index;
dim3 emulator_block_size, emulator_grid_size;
alignas(256) char emulator_shared_memory[227 << 10];

// Saves the callee's registers and the stack pointer in *from, goes on with those of `to`.
void emulator_switch(void **from, void *to);
}
asm(R"(
  .text
  .globl emulator_switch
  .type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size emulator_switch, .-emulator_switch
)");

namespace emulator {
namespace {

struct Entry {  // as in cuda_shim.h
  void (*call)(void *function, void **parameters);
  void *function;
  int n_parameters;
  const size_t *sizes;
};

struct Module;
struct Kernel {
  std::string name;
  Module *module;
  Entry entry;
  size_t dynamic_limit = 48 << 10;
};
struct Module {
  void *library;
  int device;
  bool loaded = true;
  std::map<std::string, Kernel *> kernels;
};
std::set<Module *> modules;
std::set<Kernel *> kernels;
std::string folder = "/tmp";

// ---- one launch

enum class State { fresh, ready, at_barrier, at_warp, done };

struct Thread {
  State state = State::fresh;
  unsigned mask = 0;
  char *stack = nullptr;
  void *pointer = nullptr;  // into its stack: where to go on
  alignas(16) char value[16];
};

constexpr size_t max_threads = 1024, stack_size = 256 << 10;

Thread threads[max_threads];
int n_threads, next_thread, current;
int counted, count_result;  // of __syncthreads_count
Kernel *kernel;
void **parameters;
void *scheduler;                              // into the stack that run_block is on
std::vector<char *> all_stacks, free_stacks;  // lowest addresses
char *running_stack;

void set_index(int thread) {
  current = thread;
  unsigned x = emulator_block_size.x, y = emulator_block_size.y;
  emulator_thread_index = {thread % x, thread / x % y, thread / (x * y)};
}

void stack_main() {
  while (next_thread < n_threads) {
    set_index(next_thread++);
    kernel->entry.call(kernel->entry.function, parameters);
    threads[current].state = State::done;
  }
  free_stacks.push_back(running_stack);
  void *unused;
  emulator_switch(&unused, scheduler);  // for good: begin() starts a free stack anew
}

void begin() {
  if (free_stacks.empty()) {
    size_t page = sysconf(_SC_PAGESIZE);
    char *stack = static_cast<char *>(mmap(nullptr, stack_size, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0));
    mprotect(stack, page, PROT_NONE);  // an overflow faults
    all_stacks.push_back(stack);
    free_stacks.push_back(stack);
  }
  running_stack = free_stacks.back();
  free_stacks.pop_back();
  void **top = reinterpret_cast<void **>(running_stack + stack_size) - 2;
  *top = reinterpret_cast<void *>(stack_main);
  emulator_switch(&scheduler, top - 6);
}

void resume(int thread) {
  set_index(thread);
  running_stack = threads[thread].stack;
  emulator_switch(&scheduler, threads[thread].pointer);
}

void wait(State state) {
  threads[current].state = state;
  threads[current].stack = running_stack;
  emulator_switch(&threads[current].pointer, scheduler);
}

// The threads of this one's warp that exist.
unsigned existing_lanes(int thread) {
  int in_warp = n_threads - thread / 32 * 32;
  return in_warp >= 32 ? 0xffffffff : (1u << in_warp) - 1;
}

bool release_warps() {
  bool released = false;
  for (int first = 0; first < n_threads; first += 32)
    for (int i = first; i < first + 32 && i < n_threads; ++i) {
      if (threads[i].state != State::at_warp) continue;
      unsigned mask = threads[i].mask & existing_lanes(first);
      bool complete = mask >> (i - first) & 1;
      for (int j = 0; j < 32; ++j)
        if (mask >> j & 1)
          complete &=
              threads[first + j].state == State::at_warp && threads[first + j].mask == threads[i].mask;
      if (!complete) continue;
      for (int j = 0; j < 32; ++j)
        if (mask >> j & 1) threads[first + j].state = State::ready;
      released = true;
    }
  return released;
}

const char *where() {
  static char text[512];
  snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", kernel->name.c_str(),
           emulator_block_index.x, emulator_block_index.y, emulator_block_index.z, emulator_thread_index.x,
           emulator_thread_index.y, emulator_thread_index.z);
  return text;
}

cudaError_t run_block() {
  for (int i = 0; i < n_threads; ++i) threads[i].state = State::fresh;
  next_thread = counted = 0;
  for (;;) {
    while (next_thread < n_threads) begin();
    bool any = false;
    int n[5] = {};
    for (int i = 0; i < n_threads; ++i)
      if (threads[i].state == State::ready) resume(i), any = true;
    if (any) continue;
    for (int i = 0; i < n_threads; ++i) ++n[static_cast<int>(threads[i].state)];
    int barrier = n[static_cast<int>(State::at_barrier)], done = n[static_cast<int>(State::done)];
    if (done == n_threads) return cudaSuccess;
    if (barrier == n_threads) {
      count_result = std::exchange(counted, 0);
      for (int i = 0; i < n_threads; ++i) threads[i].state = State::ready;
    } else if (!release_warps()) {
      say("%s: of %d threads %d wait at __syncthreads, %d for other threads of their warp, %d have returned",
          where(), n_threads, barrier, n[static_cast<int>(State::at_warp)], done);
      return cudaErrorLaunchFailure;
    }
  }
}

cudaError_t run_grid(Kernel *which, dim3 grid, dim3 block, size_t shared, void **arguments) {
  if (!which->module->loaded) {
    say("kernel %s: its module has been unloaded", which->name.c_str());
    return cudaErrorIllegalAddress;
  }
  kernel = which;
  parameters = arguments;
  n_threads = block.x * block.y * block.z;
  emulator_block_size = block;
  emulator_grid_size = grid;
  free_stacks = all_stacks;  // an earlier launch may have ended with threads left waiting
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        emulator_block_index = {x, y, z};
        memset(emulator_shared_memory, 0xFF, shared);
        if (cudaError_t error = run_block()) {
          kernel = nullptr;
          return error;
        }
      }
  kernel = nullptr;
  return cudaSuccess;
}

// ---- faults

thread_local sigjmp_buf *fault_target = nullptr;
thread_local cudaError_t fault_error;

void on_fault(int signal, siginfo_t *info, void *) {
  if (!fault_target) {  // not ours: another thread's
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, nullptr);
    return;
  }
  fault_error = signal == SIGFPE ? cudaErrorLaunchFailure : cudaErrorIllegalAddress;
  if (signal == SIGFPE)
    say("division of an integer by zero, in %s", kernel ? where() : "a library's work");
  else
    say("illegal address %p, in %s", info->si_addr, kernel ? where() : "a copy or a library's work");
  siglongjmp(*fault_target, 1);
}

// The stack of a kernel's thread may be what has run out.
void give_signal_stack() {
  stack_t given;
  sigaltstack(nullptr, &given);
  if (!(given.ss_flags & SS_DISABLE)) return;
  stack_t ours = {};
  ours.ss_size = 64 << 10;
  ours.ss_sp = malloc(ours.ss_size);
  sigaltstack(&ours, nullptr);
}

// Handlers are set for the time of the work only: pytest's faulthandler wants the same signals.
class FaultHandlers {
 public:
  FaultHandlers() {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &action, &before_[i]);
  }
  ~FaultHandlers() {
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &before_[i], nullptr);
  }

 private:
  static constexpr int signals[3] = {SIGSEGV, SIGBUS, SIGFPE};
  struct sigaction before_[3];
};

#define CU(error) static_cast<CUresult>(error)  // the runtime's codes are the driver's for what is used here

}  // namespace

cudaError_t guarded(const Operation &operation) {
  give_signal_stack();
  FaultHandlers handlers;
  sigjmp_buf target, *outer = fault_target;  // one stream's work may wait for another's
  if (sigsetjmp(target, 1)) {
    fault_target = outer;
    kernel = nullptr;
    return fault_error;
  }
  fault_target = &target;
  cudaError_t error = operation();
  fault_target = outer;
  return error;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

// ---- called by kernels

void emulator_sync_block(void) { emulator::wait(State::at_barrier); }

void emulator_sync_warp(unsigned mask) {
  threads[current].mask = mask;
  emulator::wait(State::at_warp);
}

int emulator_count(int predicate) {
  counted += predicate;
  emulator_sync_block();
  int result = count_result;
  emulator_sync_block();
  return result;
}

void emulator_put(unsigned mask, const void *value, size_t size) {
  memcpy(threads[current].value, value, size);
  emulator_sync_warp(mask);
}

// A lane that gave no value, being outside of the mask or of the block, has garbage.
int emulator_get(int lane, void *value, size_t size) {
  int thread = current / 32 * 32 + lane;
  bool given =
      lane >= 0 && lane < 32 && existing_lanes(current) >> lane & 1 && threads[current].mask >> lane & 1;
  if (given)
    memcpy(value, threads[thread].value, size);
  else
    memset(value, 0xFF, size);
  return given;
}

unsigned emulator_lane(void) { return current % 32; }
unsigned emulator_lanes(void) { return existing_lanes(current); }

void emulator_assert(const char *condition, const char *file, int line) {
  say("%s:%d: assertion `%s` failed, in %s", file, line, condition, where());
  fault_error = cudaErrorAssert;
  siglongjmp(*fault_target, 1);
}

// Where modules become files for the time of their loading.
void emulator_set_folder(const char *path) { folder = path; }

// ---- the driver

CUresult cuGetErrorName(CUresult error, const char **text) {
  *text = cudaGetErrorName(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = cudaGetErrorString(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}

// A context per device, known by the device's number and one.
CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = reinterpret_cast<CUcontext>(static_cast<intptr_t>(current_device() + 1));
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  return CU(cudaSetDevice(static_cast<int>(reinterpret_cast<intptr_t>(context)) - 1));
}
CUresult cuCtxGetDevice(CUdevice *device) {
  *device = current_device();
  return CUDA_SUCCESS;
}
CUresult cuStreamGetCtx(CUstream handle, CUcontext *context) {
  Lock lock;
  Stream *stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  *context = reinterpret_cast<CUcontext>(static_cast<intptr_t>(device_of(stream) + 1));
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }

// image: "EMULATED", the size as 8 bytes, a shared library (nvrtc.py)
CUresult cuModuleLoadData(CUmodule *handle, const void *image) {
  Lock lock;
  const char *bytes = static_cast<const char *>(image);
  if (memcmp(bytes, "EMULATED", 8)) {
    say("this module was not compiled by the emulator");
    return CUDA_ERROR_INVALID_IMAGE;
  }
  if (cudaError_t error = potentially_unsafe()) return CU(error);
  uint64_t size;
  memcpy(&size, bytes + 8, sizeof size);
  // each load has a file of its own, so its globals are its own too
  static int n_loaded = 0;
  std::string path = folder + "/" + std::to_string(getpid()) + "-" + std::to_string(++n_loaded) + ".so";
  std::ofstream(path, std::ios::binary).write(bytes + 16, size);
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  unlink(path.c_str());
  if (!library) {
    say("%s", dlerror());
    return CUDA_ERROR_INVALID_IMAGE;
  }
  Module *module = new Module{library, current_device()};
  modules.insert(module);
  *handle = reinterpret_cast<CUmodule>(module);
  return CUDA_SUCCESS;
}

// Its code stays, since a graph may hold its kernels: launching them is refused, not a crash.
CUresult cuModuleUnload(CUmodule handle) {
  Lock lock;
  Module *module = reinterpret_cast<Module *>(handle);
  if (!modules.erase(module)) return CUDA_ERROR_INVALID_HANDLE;
  synchronize_device(-1);
  module->loaded = false;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *handle, CUmodule of, const char *name) {
  Lock lock;
  Module *module = reinterpret_cast<Module *>(of);
  if (!modules.count(module)) return CUDA_ERROR_INVALID_HANDLE;
  Kernel *&found = module->kernels[name];
  if (!found) {
    auto entry = reinterpret_cast<Entry (*)()>(
        dlsym(module->library, (std::string("emulator_kernel_") + name).c_str()));
    if (!entry) return CUDA_ERROR_NOT_FOUND;
    kernels.insert(found = new Kernel{name, module, entry()});
  }
  *handle = reinterpret_cast<CUfunction>(found);
  return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal(CUdeviceptr *pointer, size_t *size, CUmodule of, const char *name) {
  Lock lock;
  Module *module = reinterpret_cast<Module *>(of);
  if (!modules.count(module)) return CUDA_ERROR_INVALID_HANDLE;
  void *address = dlsym(module->library, name);
  Dl_info info;
  const ElfW(Sym) *symbol = nullptr;
  if (!address ||
      !dladdr1(address, &info, reinterpret_cast<void **>(const_cast<ElfW(Sym) **>(&symbol)),
               RTLD_DL_SYMENT) ||
      !symbol)
    return CUDA_ERROR_NOT_FOUND;
  register_global(address, symbol->st_size);
  *pointer = reinterpret_cast<CUdeviceptr>(address);
  if (size) *size = symbol->st_size;
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle) {
  Lock lock;
  Kernel *which = reinterpret_cast<Kernel *>(handle);
  if (!kernels.count(which)) return CUDA_ERROR_INVALID_HANDLE;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = max_threads; break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = which->dynamic_limit; break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = 90; break;
    default: *value = 0;
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  Lock lock;
  Kernel *which = reinterpret_cast<Kernel *>(handle);
  if (!kernels.count(which)) return CUDA_ERROR_INVALID_HANDLE;
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (value < 0 || static_cast<size_t>(value) > sizeof emulator_shared_memory)
      return CUDA_ERROR_INVALID_VALUE;
    which->dynamic_limit = value;
  }
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int block_size, size_t shared) {
  *blocks = std::min<size_t>({32, 2048u / std::max(block_size, 1), (228u << 10) / (shared + 1024)});
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction, CUoccupancyB2DSize, size_t,
                                          int limit) {
  *block = limit ? std::min(limit, 1024) : 1024;
  *grid = 132 * (2048 / *block);
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared, CUstream on,
                        void **arguments, void **extra) {
  Lock lock;
  Kernel *which = reinterpret_cast<Kernel *>(handle);
  if (!kernels.count(which) || !which->module->loaded || which->module->device != current_device())
    return CUDA_ERROR_INVALID_HANDLE;
  Stream *stream = find_stream(on);
  if (!stream || device_of(stream) != current_device()) return CUDA_ERROR_INVALID_HANDLE;
  if (extra) {
    say("cuLaunchKernel with `extra` is not emulated");
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  dim3 grid(grid_x, grid_y, grid_z), block(block_x, block_y, block_z);
  if (!grid_x || !grid_y || !grid_z || grid_x > 0x7fffffff || grid_y > 65535 || grid_z > 65535 || !block_x ||
      !block_y || !block_z || block_z > 64 || uint64_t{block_x} * block_y * block_z > max_threads ||
      shared > which->dynamic_limit)
    return CUDA_ERROR_INVALID_VALUE;
  // the arguments as they are now: the caller's memory is gone when a recorded kernel runs
  auto copies = std::make_shared<std::vector<std::vector<std::max_align_t>>>();
  for (int i = 0; i < which->entry.n_parameters; ++i) {
    copies->emplace_back(which->entry.sizes[i] / sizeof(std::max_align_t) + 1);
    memcpy(copies->back().data(), arguments[i], which->entry.sizes[i]);
  }
  return CU(fail(submit(stream, [=] {
    std::vector<void *> pointers;
    for (auto &copy : *copies) pointers.push_back(copy.data());
    return run_grid(which, grid, block, shared, pointers.data());
  })));
}

}  // extern "C"
