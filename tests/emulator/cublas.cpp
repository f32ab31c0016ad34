// A fake cuBLAS: what CuPy's products and Chainer's links call, for real numbers. Matrices are in
// column-major order.
#include "declarations.h"

#include <cmath>
#include <vector>

#include "libraries.h"

namespace {

struct Handle {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math_mode = CUBLAS_DEFAULT_MATH;
};

Handle *get(cublasHandle_t handle) { return reinterpret_cast<Handle *>(handle); }

template <class F>
cublasStatus_t work(cublasHandle_t handle, F f) {
  return submit(get(handle)->stream, f) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

// alpha or beta: the host's are read at the call, the device's when the work is done.
template <class T>
class Scalar {
 public:
  Scalar(cublasHandle_t handle, const T *pointer) : pointer_(pointer), value_() {
    on_device_ = get(handle)->pointer_mode == CUBLAS_POINTER_MODE_DEVICE;
    if (!on_device_) value_ = *pointer;
  }
  T operator()() const { return on_device_ ? *pointer_ : value_; }

 private:
  const T *pointer_;
  T value_;
  bool on_device_;
};

// A result: in the host's memory the call has to wait for it, which a capture refuses.
template <class T, class F>
cublasStatus_t result(cublasHandle_t handle, T *to, F f) {
  cublasStatus_t status = work(handle, [=] { *to = f(); });
  if (status == CUBLAS_STATUS_SUCCESS && get(handle)->pointer_mode == CUBLAS_POINTER_MODE_HOST &&
      cudaStreamSynchronize(get(handle)->stream))
    return CUBLAS_STATUS_EXECUTION_FAILED;
  return status;
}

size_t size_of(cudaDataType type) {
  switch (type) {
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    case CUDA_R_32F: return 4;
    case CUDA_R_64F: return 8;
    default: return 0;
  }
}

template <class T>
T load(const void *from, cudaDataType type, size_t i) {
  switch (type) {
    case CUDA_R_16F: return static_cast<float>(static_cast<const __half *>(from)[i]);
    case CUDA_R_16BF: return static_cast<float>(static_cast<const __nv_bfloat16 *>(from)[i]);
    case CUDA_R_32F: return static_cast<const float *>(from)[i];
    default: return static_cast<const double *>(from)[i];
  }
}

template <class T>
void store(void *to, cudaDataType type, size_t i, T value) {
  switch (type) {
    case CUDA_R_16F: static_cast<__half *>(to)[i] = __float2half(value); break;
    case CUDA_R_16BF: static_cast<__nv_bfloat16 *>(to)[i] = __float2bfloat16(value); break;
    case CUDA_R_32F: static_cast<float *>(to)[i] = value; break;
    default: static_cast<double *>(to)[i] = value;
  }
}

struct Matrix {
  const void *pointer;
  cudaDataType type;
  cublasOperation_t op;
  int ld;

  bool is_valid(int rows, int columns) const {
    if (op != CUBLAS_OP_N) std::swap(rows, columns);
    if (rows == 0 || columns == 0) return true;
    return ld >= rows && emulator_on_device(pointer, (size_t{1} * ld * (columns - 1) + rows) * size_of(type));
  }

  // op(this), columns one after the other
  template <class T>
  std::vector<T> read(int rows, int columns) const {
    std::vector<T> values(size_t{1} * rows * columns);
    for (int j = 0; j < columns; ++j)
      for (int i = 0; i < rows; ++i)
        values[size_t{1} * j * rows + i] =
            load<T>(pointer, type, op == CUBLAS_OP_N ? size_t{1} * j * ld + i : size_t{1} * i * ld + j);
    return values;
  }
};

Matrix shifted(Matrix a, long long n) {
  a.pointer = static_cast<const char *>(a.pointer) + n * static_cast<long long>(size_of(a.type));
  return a;
}

// C = alpha A B + beta C, in the arithmetic of T
template <class T>
void multiply(int m, int n, int k, T alpha, Matrix a, Matrix b, T beta, Matrix c) {
  std::vector<T> left = a.read<T>(m, k), right = b.read<T>(k, n), sum(m);
  void *to = const_cast<void *>(c.pointer);
  for (int j = 0; j < n; ++j) {
    std::fill(sum.begin(), sum.end(), T(0));
    for (int l = 0; l < k; ++l) {
      T factor = right[size_t{1} * j * k + l];
      const T *column = &left[size_t{1} * l * m];
      for (int i = 0; i < m; ++i) sum[i] += factor * column[i];
    }
    for (int i = 0; i < m; ++i) {
      size_t at = size_t{1} * j * c.ld + i;
      // zero beta: C may be uninitialised
      store<T>(to, c.type, at,
               beta == T(0) ? alpha * sum[i] : alpha * sum[i] + beta * load<T>(to, c.type, at));
    }
  }
}

bool are_valid(int m, int n, int k, Matrix a, Matrix b, Matrix c) {
  if (m < 0 || n < 0 || k < 0 || !size_of(a.type) || !size_of(b.type) || !size_of(c.type)) return false;
  if (a.is_valid(m, k) && b.is_valid(k, n) && c.is_valid(m, n)) return true;
  fprintf(stderr, "emulator: a matrix product of %d x %d x %d does not fit its arrays\n", m, k, n);
  return false;
}

struct Strides {
  long long a = 0, b = 0, c = 0;
};

template <class T, class S>
cublasStatus_t gemm(cublasHandle_t handle, int m, int n, int k, const S *alpha, Matrix a, Matrix b,
                    const S *beta, Matrix c, Strides strides = {}, int count = 1) {
  for (int i = 0; i < count; ++i)
    if (!are_valid(m, n, k, shifted(a, i * strides.a), shifted(b, i * strides.b), shifted(c, i * strides.c)))
      return CUBLAS_STATUS_INVALID_VALUE;
  Scalar<S> scale(handle, alpha), keep(handle, beta);
  return work(handle, [=] {
    for (int i = 0; i < count; ++i)
      multiply<T>(m, n, k, static_cast<T>(scale()), shifted(a, i * strides.a), shifted(b, i * strides.b),
                  static_cast<T>(keep()), shifted(c, i * strides.c));
  });
}

// The pointers lie in the device's memory, so they are only known when the work is done.
template <class T>
cublasStatus_t gemm_of_pointers(cublasHandle_t handle, int m, int n, int k, const T *alpha,
                                const T *const *as, Matrix a, const T *const *bs, Matrix b, const T *beta,
                                T *const *cs, Matrix c, int count) {
  Scalar<T> scale(handle, alpha), keep(handle, beta);
  return work(handle, [=] {
    for (int i = 0; i < count; ++i) {
      Matrix x = a, y = b, z = c;
      x.pointer = as[i], y.pointer = bs[i], z.pointer = cs[i];
      multiply<T>(m, n, k, scale(), x, y, keep(), z);
    }
  });
}

cublasStatus_t gemm_ex(cublasHandle_t handle, int m, int n, int k, const void *alpha, Matrix a, Matrix b,
                       const void *beta, Matrix c, cublasComputeType_t type, Strides strides = {},
                       int count = 1) {
  switch (type) {
    case CUBLAS_COMPUTE_16F:
    case CUBLAS_COMPUTE_16F_PEDANTIC:  // summed in single precision here
      return gemm<float>(handle, m, n, k, static_cast<const __half *>(alpha), a, b,
                         static_cast<const __half *>(beta), c, strides, count);
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC:
      return gemm<double>(handle, m, n, k, static_cast<const double *>(alpha), a, b,
                          static_cast<const double *>(beta), c, strides, count);
    case CUBLAS_COMPUTE_32I:
    case CUBLAS_COMPUTE_32I_PEDANTIC: return CUBLAS_STATUS_NOT_SUPPORTED;
    default:  // single precision; no TF32 or bfloat16 rounding of the inputs
      return gemm<float>(handle, m, n, k, static_cast<const float *>(alpha), a, b,
                         static_cast<const float *>(beta), c, strides, count);
  }
}

// Element i of a vector of n with any increment.
template <class T>
T &at(T *x, int i, int n, int increment) {
  return x[static_cast<ptrdiff_t>(increment > 0 ? i : i - n + 1) * increment];
}

template <class T>
cublasStatus_t gemv(cublasHandle_t handle, Matrix a, int m, int n, const T *alpha, const T *x, int incx,
                    const T *beta, T *y, int incy) {
  int rows = a.op == CUBLAS_OP_N ? m : n, columns = a.op == CUBLAS_OP_N ? n : m;
  Scalar<T> scale(handle, alpha), keep(handle, beta);
  return work(handle, [=] {
    std::vector<T> values = a.read<T>(rows, columns);
    for (int i = 0; i < rows; ++i) {
      T sum = 0;
      for (int j = 0; j < columns; ++j) sum += values[size_t{1} * j * rows + i] * at(x, j, columns, incx);
      T &to = at(y, i, rows, incy);
      to = keep() == T(0) ? scale() * sum : scale() * sum + keep() * to;
    }
  });
}

template <class T>
constexpr cudaDataType type_of = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
  *handle = reinterpret_cast<cublasHandle_t>(new Handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete get(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *version) {
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  get(handle)->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t *stream) {
  *stream = get(handle)->stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void *, size_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  get(handle)->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t *mode) {
  *mode = get(handle)->pointer_mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  get(handle)->math_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode) {
  *mode = get(handle)->math_mode;
  return CUBLAS_STATUS_SUCCESS;
}

#define OP cublasOperation_t
#define FOR_TYPE(T, S) \
  cublasStatus_t cublas##S##gemm_v2(cublasHandle_t h, OP ta, OP tb, int m, int n, int k, const T *alpha, \
                                    const T *a, int lda, const T *b, int ldb, const T *beta, T *c, \
                                    int ldc) { \
    return gemm<T>(h, m, n, k, alpha, {a, type_of<T>, ta, lda}, {b, type_of<T>, tb, ldb}, beta, \
                   {c, type_of<T>, CUBLAS_OP_N, ldc}); \
  } \
  cublasStatus_t cublas##S##gemmStridedBatched(cublasHandle_t h, OP ta, OP tb, int m, int n, int k, \
                                               const T *alpha, const T *a, int lda, long long sa, \
                                               const T *b, int ldb, long long sb, const T *beta, T *c, \
                                               int ldc, long long sc, int count) { \
    return gemm<T>(h, m, n, k, alpha, {a, type_of<T>, ta, lda}, {b, type_of<T>, tb, ldb}, beta, \
                   {c, type_of<T>, CUBLAS_OP_N, ldc}, {sa, sb, sc}, count); \
  } \
  cublasStatus_t cublas##S##gemmBatched(cublasHandle_t h, OP ta, OP tb, int m, int n, int k, const T *alpha, \
                                        const T *const a[], int lda, const T *const b[], int ldb, \
                                        const T *beta, T *const c[], int ldc, int count) { \
    return gemm_of_pointers<T>(h, m, n, k, alpha, a, {nullptr, type_of<T>, ta, lda}, b, \
                               {nullptr, type_of<T>, tb, ldb}, beta, c, \
                               {nullptr, type_of<T>, CUBLAS_OP_N, ldc}, count); \
  } \
  cublasStatus_t cublas##S##gemv_v2(cublasHandle_t h, OP op, int m, int n, const T *alpha, const T *a, \
                                    int lda, const T *x, int incx, const T *beta, T *y, int incy) { \
    return gemv<T>(h, {a, type_of<T>, op, lda}, m, n, alpha, x, incx, beta, y, incy); \
  } \
  cublasStatus_t cublas##S##ger_v2(cublasHandle_t h, int m, int n, const T *alpha, const T *x, int incx, \
                                   const T *y, int incy, T *a, int lda) { \
    Scalar<T> scale(h, alpha); \
    return work(h, [=] { \
      for (int j = 0; j < n; ++j) \
        for (int i = 0; i < m; ++i) \
          a[size_t{1} * j * lda + i] += scale() * at(x, i, m, incx) * at(y, j, n, incy); \
    }); \
  } \
  cublasStatus_t cublas##S##geam(cublasHandle_t h, OP ta, OP tb, int m, int n, const T *alpha, const T *a, \
                                 int lda, const T *beta, const T *b, int ldb, T *c, int ldc) { \
    Scalar<T> first(h, alpha), second(h, beta); \
    Matrix left{a, type_of<T>, ta, lda}, right{b, type_of<T>, tb, ldb}; \
    return work(h, [=] { \
      T f = first(), s = second(); \
      std::vector<T> x(size_t{1} * m * n), y = x; \
      if (f != T(0)) x = left.read<T>(m, n); \
      if (s != T(0)) y = right.read<T>(m, n); \
      for (int j = 0; j < n; ++j) \
        for (int i = 0; i < m; ++i) \
          c[size_t{1} * j * ldc + i] = f * x[size_t{1} * j * m + i] + s * y[size_t{1} * j * m + i]; \
    }); \
  } \
  cublasStatus_t cublas##S##dgmm(cublasHandle_t h, cublasSideMode_t side, int m, int n, const T *a, int lda, \
                                 const T *x, int incx, T *c, int ldc) { \
    return work(h, [=] { \
      for (int j = 0; j < n; ++j) \
        for (int i = 0; i < m; ++i) \
          c[size_t{1} * j * ldc + i] = a[size_t{1} * j * lda + i] * \
                                       (side == CUBLAS_SIDE_LEFT ? at(x, i, m, incx) : at(x, j, n, incx)); \
    }); \
  } \
  cublasStatus_t cublas##S##axpy_v2(cublasHandle_t h, int n, const T *alpha, const T *x, int incx, T *y, \
                                    int incy) { \
    Scalar<T> scale(h, alpha); \
    return work(h, [=] { \
      for (int i = 0; i < n; ++i) at(y, i, n, incy) += scale() * at(x, i, n, incx); \
    }); \
  } \
  cublasStatus_t cublas##S##scal_v2(cublasHandle_t h, int n, const T *alpha, T *x, int incx) { \
    Scalar<T> scale(h, alpha); \
    return work(h, [=] { \
      for (int i = 0; i < n; ++i) at(x, i, n, incx) *= scale(); \
    }); \
  } \
  cublasStatus_t cublas##S##dot_v2(cublasHandle_t h, int n, const T *x, int incx, const T *y, int incy, \
                                   T *to) { \
    return result(h, to, [=] { \
      T sum = 0; \
      for (int i = 0; i < n; ++i) sum += at(x, i, n, incx) * at(y, i, n, incy); \
      return sum; \
    }); \
  } \
  cublasStatus_t cublas##S##nrm2_v2(cublasHandle_t h, int n, const T *x, int incx, T *to) { \
    return result(h, to, [=] { \
      double sum = 0; \
      for (int i = 0; i < n; ++i) sum += static_cast<double>(at(x, i, n, incx)) * at(x, i, n, incx); \
      return static_cast<T>(std::sqrt(sum)); \
    }); \
  } \
  cublasStatus_t cublas##S##asum_v2(cublasHandle_t h, int n, const T *x, int incx, T *to) { \
    return result(h, to, [=] { \
      T sum = 0; \
      for (int i = 0; i < n; ++i) sum += std::abs(at(x, i, n, incx)); \
      return sum; \
    }); \
  }
FOR_TYPE(float, S)
FOR_TYPE(double, D)

cublasStatus_t cublasSgemmEx(cublasHandle_t h, OP ta, OP tb, int m, int n, int k, const float *alpha,
                             const void *a, cudaDataType at, int lda, const void *b, cudaDataType bt, int ldb,
                             const float *beta, void *c, cudaDataType ct, int ldc) {
  return gemm<float>(h, m, n, k, alpha, {a, at, ta, lda}, {b, bt, tb, ldb}, beta, {c, ct, CUBLAS_OP_N, ldc});
}

cublasStatus_t cublasGemmEx(cublasHandle_t h, OP ta, OP tb, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType at, int lda, const void *b, cudaDataType bt, int ldb,
                            const void *beta, void *c, cudaDataType ct, int ldc, cublasComputeType_t type,
                            cublasGemmAlgo_t) {
  return gemm_ex(h, m, n, k, alpha, {a, at, ta, lda}, {b, bt, tb, ldb}, beta, {c, ct, CUBLAS_OP_N, ldc},
                 type);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, OP ta, OP tb, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType at, int lda,
                                          long long sa, const void *b, cudaDataType bt, int ldb, long long sb,
                                          const void *beta, void *c, cudaDataType ct, int ldc, long long sc,
                                          int count, cublasComputeType_t type, cublasGemmAlgo_t) {
  return gemm_ex(h, m, n, k, alpha, {a, at, ta, lda}, {b, bt, tb, ldb}, beta, {c, ct, CUBLAS_OP_N, ldc}, type,
                 {sa, sb, sc}, count);
}

}  // extern "C"
