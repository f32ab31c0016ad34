// The attention mechanism: y = g w and, backward in one pass, gg = gy w and gM = the sum of g gy over the
// channels, where w = M + residual. kernels.py chooses the launch, says why it is laid out so, and defines:
//   ELEMENT  Half, float or double
//   WIDTH    elements of a vector: 16 bytes or a single element
//   THREADS  of a block, at most
//   UNROLL   loads of each array that a thread has on their way at once

#ifdef __CUDACC__
// float16 without CUDA's header, which is not everywhere where NVRTC is
struct Half {
    unsigned short bits;
    Half() = default;
    __device__ explicit Half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
    __device__ explicit operator float() const {
        float x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
        return x;
    }
};
#else
typedef _Float16 Half;
#endif

typedef ELEMENT T;

template <class Element> struct SumOf { typedef float type; };
template <> struct SumOf<double> { typedef double type; };
typedef SumOf<T>::type Sum;

struct alignas(sizeof(T) * WIDTH) Vector {
    T of[WIDTH];
};

// Sum of entry i of n rows of shared memory: always in the same order, so two runs give the same bits.
__device__ Sum sum_of_column(const Sum *rows, int n, int stride, int i) {
    Sum total = 0;
    for (int row = 0; row < n; ++row) total += rows[row * stride + i];
    return total;
}

// NCHW. An image is `rows` rows of `width` vectors; a row is the fewest channels that fill whole vectors, so
// element i of every row belongs to pixel i % pixels. Block (tile, part, image) takes blockDim.x vectors of
// `length` rows: each thread stays on one vector of the row, with its weights and sums in registers. The sums
// go to gM, or where several blocks share a pixel, and where a split row has it several times, to partial
// sums (images, n, pixels) for fold().
template <bool GRAD>
__device__ void planes(
        const Vector *__restrict__ x, const T *__restrict__ m, Vector *__restrict__ out,
        const Vector *__restrict__ g, void *__restrict__ sums,
        int first, int pixels, int width, int rows, int length, int residual) {
    int part = blockIdx.y;
    long long image = first + blockIdx.z;
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    Sum sum[WIDTH] = {};
    if (column < width) {
        // 32 bits are enough within a part
        long long start = (image * rows + part * length) * width;
        int end = min(length, rows - part * length);
        x += start, out += start;
        if (GRAD) g += start;
        Vector a[UNROLL], b[UNROLL];
        int row = threadIdx.y;
        auto load = [&] {
            // past the end the last row is read again: a branch would keep the loads from overlapping
            #pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                int at = min(row + u * (int)blockDim.y, end - 1) * width + column;
                a[u] = x[at];
                if (GRAD) b[u] = g[at];
            }
        };
        load();  // before the weights, which are waited for
        Sum weight[WIDTH];
        #pragma unroll
        for (int e = 0, pixel = column * WIDTH % pixels; e < WIDTH; ++e) {
            weight[e] = Sum(m[image * pixels + pixel]) + residual;
            pixel = pixel + 1 == pixels ? 0 : pixel + 1;
        }
        while (true) {
            #pragma unroll
            for (int u = 0; u < UNROLL; ++u)
                if (row + u * (int)blockDim.y < end) {
                    #pragma unroll
                    for (int e = 0; e < WIDTH; ++e) {
                        Sum value = Sum(a[u].of[e]);
                        if (GRAD) sum[e] += value * Sum(b[u].of[e]);
                        a[u].of[e] = T(value * weight[e]);
                    }
                    out[(row + u * (int)blockDim.y) * width + column] = a[u];
                }
            row += UNROLL * blockDim.y;
            if (row >= end) break;
            load();
        }
    }
    if (GRAD) {
        __shared__ Sum shared[THREADS * WIDTH];
        int thread = threadIdx.y * blockDim.x + threadIdx.x;
        int threads = blockDim.y * blockDim.x;
        for (int e = 0; e < WIDTH; ++e) shared[thread * WIDTH + e] = sum[e];
        __syncthreads();
        // where a block has whole rows, their channels are added here as well
        int span = gridDim.x == 1 ? pixels : width * WIDTH;
        int columns = gridDim.x == 1 ? pixels : blockDim.x * WIDTH;
        int start = blockIdx.x * columns;
        int here = min(columns, span - start);
        bool final = span == pixels && gridDim.y == 1;
        for (int i = thread; i < here; i += threads) {
            Sum total = sum_of_column(shared, threads * WIDTH / columns, columns, i);
            long long at = (image * gridDim.y + part) * span + start + i;
            if (final) ((T *)sums)[at] = T(total);
            else ((Sum *)sums)[at] = total;
        }
    }
}

// NHWC. A pixel is a row of `width` vectors, over which blockDim.x threads stride; a block takes
// blockDim.y * UNROLL pixels, each thread UNROLL of them.
template <bool GRAD>
__device__ void pixels(
        const Vector *__restrict__ x, const T *__restrict__ m, Vector *__restrict__ out,
        const Vector *__restrict__ g, T *__restrict__ gm, long long n, int width, int residual) {
    int count = blockDim.y * UNROLL;
    long long first = (long long)blockIdx.x * count;
    int here = min((long long)count, n - first);
    x += first * width, out += first * width, m += first;
    if (GRAD) g += first * width;
    Vector a[UNROLL], b[UNROLL];
    int column = threadIdx.x;
    auto load = [&] {
        #pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            int at = min(int(threadIdx.y + u * blockDim.y), here - 1) * width + column;
            a[u] = x[at];
            if (GRAD) b[u] = g[at];
        }
    };
    load();
    Sum weight[UNROLL], sum[UNROLL] = {};
    #pragma unroll
    for (int u = 0; u < UNROLL; ++u)
        weight[u] = Sum(m[min(int(threadIdx.y + u * blockDim.y), here - 1)]) + residual;
    while (true) {
        #pragma unroll
        for (int u = 0; u < UNROLL; ++u)
            if (int(threadIdx.y + u * blockDim.y) < here) {
                #pragma unroll
                for (int e = 0; e < WIDTH; ++e) {
                    Sum value = Sum(a[u].of[e]);
                    if (GRAD) sum[u] += value * Sum(b[u].of[e]);
                    a[u].of[e] = T(value * weight[u]);
                }
                out[(threadIdx.y + u * blockDim.y) * width + column] = a[u];
            }
        column += blockDim.x;
        if (column >= width) break;
        load();
    }
    if (GRAD) {
        // one longer than needed: the threads of a warp write to different banks
        int stride = count + 1;
        __shared__ Sum shared[THREADS * (UNROLL + 1)];
        for (int u = 0; u < UNROLL; ++u)
            shared[threadIdx.x * stride + u * blockDim.y + threadIdx.y] = sum[u];
        __syncthreads();
        for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < here; i += blockDim.y * blockDim.x)
            gm[first + i] = T(sum_of_column(shared, blockDim.x, stride, i));
    }
}

extern "C" {

__global__ void __launch_bounds__(THREADS, 3) planes_forward(
        const Vector *g, const T *m, Vector *y,
        int first, int n_pixels, int width, int rows, int length, int residual) {
    planes<false>(g, m, y, nullptr, nullptr, first, n_pixels, width, rows, length, residual);
}

__global__ void __launch_bounds__(THREADS, 2) planes_backward(
        const Vector *gy, const T *m, Vector *gg, const Vector *g, void *sums,
        int first, int n_pixels, int width, int rows, int length, int residual) {
    planes<true>(gy, m, gg, g, sums, first, n_pixels, width, rows, length, residual);
}

__global__ void __launch_bounds__(THREADS, 3) pixels_forward(
        const Vector *g, const T *m, Vector *y, long long n, int width, int residual) {
    pixels<false>(g, m, y, nullptr, nullptr, n, width, residual);
}

__global__ void __launch_bounds__(THREADS, 2) pixels_backward(
        const Vector *gy, const T *m, Vector *gg, const Vector *g, T *gm,
        long long n, int width, int residual) {
    pixels<true>(gy, m, gg, g, gm, n, width, residual);
}

// gM from partial sums (images, n, pixels), a thread per pixel of an image.
__global__ void fold(const Sum *partial, T *gm, long long size, int n, int n_pixels) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    partial += i / n_pixels * n * n_pixels + i % n_pixels;
    Sum total = 0;
    for (int part = 0; part < n; ++part) total += partial[(long long)part * n_pixels];
    gm[i] = T(total);
}

}
