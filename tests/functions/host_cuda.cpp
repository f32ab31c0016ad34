// The kernels of attention.cu as host functions: what they need of CUDA, and launches. The threads of a block
// are contexts that take turns: each runs until it waits at __syncthreads() or ends.
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after the other
using std::min;

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

static ucontext_t scheduler, *running;
static void __syncthreads() { swapcontext(running, &scheduler); }

#include "attention.cu"

static void (*body)();

static void run_block() {
    const size_t stack = 64 << 10;
    unsigned n = blockDim.x * blockDim.y * blockDim.z;
    std::vector<ucontext_t> threads(n);
    std::unique_ptr<char[]> stacks(new char[n * stack]);
    std::vector<bool> ended(n);
    for (unsigned i = 0; i < n; ++i) {
        getcontext(&threads[i]);
        threads[i].uc_stack.ss_sp = &stacks[i * stack];
        threads[i].uc_stack.ss_size = stack;
        threads[i].uc_link = nullptr;
        makecontext(&threads[i], [] {
            body();
            running = nullptr;
            setcontext(&scheduler);
        }, 0);
    }
    for (unsigned left = n; left;)
        for (unsigned i = 0; i < n; ++i) {
            if (ended[i]) continue;
            threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
            running = &threads[i];
            swapcontext(&scheduler, running);
            if (!running) {
                ended[i] = true;
                --left;
            }
        }
}

// As cuLaunchKernel: arguments are pointers to the values.
template <class... A, size_t... I>
static void launch(void (*kernel)(A...), void **values, std::index_sequence<I...>) {
    static void (*function)(A...);
    static void **arguments;
    function = kernel;
    arguments = values;
    body = [] { function(*static_cast<A *>(arguments[I])...); };
    Index grid = gridDim;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block();
}

template <class... A>
static void launch(void (*kernel)(A...), const unsigned *grid, const unsigned *block, void **values) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    launch(kernel, values, std::index_sequence_for<A...>());
}

#define LAUNCHER(kernel) \
    extern "C" void launch_##kernel(const unsigned *grid, const unsigned *block, void **values) { \
        launch(kernel, grid, block, values); \
    }
LAUNCHER(planes_forward)
LAUNCHER(planes_backward)
LAUNCHER(pixels_forward)
LAUNCHER(pixels_backward)
LAUNCHER(fold)
