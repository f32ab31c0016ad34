/* A stand-in for libcudnn.so.9 on host memory: the functions that chainer_abn.runtime.cudnn calls.

   It is stricter than the library: handles and descriptors are checked by kind, dims, strides and types
   must fit each other, factors must be 1 or 0 in the right type, and what is wrong is refused with a
   line on stderr. What is right is computed by plain loops in double precision. Workspaces are demanded
   and overwritten. Every call of a computing function is noted (fake_cudnn_log).

       gcc -O3 -shared -fPIC -o libcudnn.so.9 cudnn.c -lm -lpthread

   With -DCHECK_AGAINST_HEADERS -fsyntax-only, and cudnn.h on the include path, the compiler compares
   prototypes and constants with the true ones. */
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONSTANTS(X) \
    X(CUDNN_STATUS_SUCCESS, 0) X(CUDNN_STATUS_BAD_PARAM, 2000) X(CUDNN_STATUS_NOT_SUPPORTED, 3000) \
    X(CUDNN_STATUS_EXECUTION_FAILED, 5000) \
    X(CUDNN_DATA_FLOAT, 0) X(CUDNN_DATA_DOUBLE, 1) X(CUDNN_DATA_HALF, 2) \
    X(CUDNN_DEFAULT_MATH, 0) X(CUDNN_TENSOR_OP_MATH, 1) X(CUDNN_FMA_MATH, 3) \
    X(CUDNN_PROPAGATE_NAN, 1) X(CUDNN_NON_DETERMINISTIC, 0) X(CUDNN_DETERMINISTIC, 1) \
    X(CUDNN_TENSOR_NCHW, 0) X(CUDNN_TENSOR_NHWC, 1) X(CUDNN_CROSS_CORRELATION, 1) \
    X(CUDNN_ERRQUERY_BLOCKING, 2) \
    X(CUDNN_ACTIVATION_SIGMOID, 0) X(CUDNN_ACTIVATION_RELU, 1) X(CUDNN_ACTIVATION_TANH, 2) \
    X(CUDNN_ACTIVATION_CLIPPED_RELU, 3) \
    X(CUDNN_SOFTMAX_ACCURATE, 1) X(CUDNN_SOFTMAX_LOG, 2) X(CUDNN_SOFTMAX_MODE_CHANNEL, 1) \
    X(CUDNN_POOLING_MAX, 0) X(CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING, 1) \
    X(CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING, 2) X(CUDNN_POOLING_MAX_DETERMINISTIC, 3) \
    X(CUDNN_BATCHNORM_PER_ACTIVATION, 0) X(CUDNN_BATCHNORM_SPATIAL, 1) \
    X(CUDNN_BATCHNORM_SPATIAL_PERSISTENT, 2) X(CUDNN_BATCHNORM_OPS_BN, 0) \
    X(CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, 0) X(CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, 1) \
    X(CUDNN_CONVOLUTION_FWD_ALGO_FFT, 4) X(CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED, 7) \
    X(CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, 0) X(CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, 1) \
    X(CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, 2) X(CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED, 5) \
    X(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, 0) X(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, 1) \
    X(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, 2) X(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED, 5)

#ifdef CHECK_AGAINST_HEADERS
#include <cudnn.h>
#define CONSTANT(name, value) _Static_assert(name == value, #name);
CONSTANTS(CONSTANT)
#else
#define CONSTANT(name, value) name = value,
enum { CONSTANTS(CONSTANT) };
typedef int cudnnStatus_t, cudnnDataType_t, cudnnMathType_t, cudnnNanPropagation_t, cudnnDeterminism_t;
typedef int cudnnTensorFormat_t, cudnnConvolutionMode_t, cudnnErrQueryMode_t, cudnnActivationMode_t;
typedef int cudnnSoftmaxAlgorithm_t, cudnnSoftmaxMode_t, cudnnPoolingMode_t, cudnnBatchNormMode_t;
typedef int cudnnBatchNormOps_t, cudnnConvolutionFwdAlgo_t, cudnnConvolutionBwdDataAlgo_t;
typedef int cudnnConvolutionBwdFilterAlgo_t;
typedef void *cudaStream_t;
typedef struct cudnnRuntimeTag_t cudnnRuntimeTag_t;
typedef struct cudnnContext *cudnnHandle_t;
typedef struct cudnnTensorStruct *cudnnTensorDescriptor_t;
typedef struct cudnnFilterStruct *cudnnFilterDescriptor_t;
typedef struct cudnnConvolutionStruct *cudnnConvolutionDescriptor_t;
typedef struct cudnnPoolingStruct *cudnnPoolingDescriptor_t;
typedef struct cudnnActivationStruct *cudnnActivationDescriptor_t;
typedef struct cudnnDropoutStruct *cudnnDropoutDescriptor_t;
typedef struct {
    int algo, status;
    float time;
    size_t memory;
    int determinism, mathType, reserved[3];
} cudnnConvolutionFwdAlgoPerf_t;
typedef cudnnConvolutionFwdAlgoPerf_t cudnnConvolutionBwdDataAlgoPerf_t, cudnnConvolutionBwdFilterAlgoPerf_t;
#endif

#define API __attribute__((visibility("default")))
#define OK CUDNN_STATUS_SUCCESS
#define TRY(call) do { cudnnStatus_t tried = (call); if (tried != OK) return tried; } while (0)
#define NEED(condition, ...) do { if (!(condition)) return refuse(__func__, #condition, __VA_ARGS__); } while (0)
#define MOST 5      /* dims: N, C and three spatial ones */

/* Runs the work now, or records it in a stream's capture; the arguments are copied. */
__attribute__((weak)) int emulator_submit(void *stream, void (*run)(const void *args), const void *args,
                                          size_t size);
/* Whether the emulated device has this memory; without an emulator, nobody knows. */
__attribute__((weak)) int emulator_on_device(const void *start, size_t size);

/* ---- messages and the log ---- */

static _Thread_local char last_error[512];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *notes;
static size_t noted, room;
static long alive;

static cudnnStatus_t refuse(const char *function, const char *condition, const char *format, ...)
{
    char detail[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    snprintf(last_error, sizeof last_error, "%s needs %s: %s", function, condition, detail);
    fprintf(stderr, "fake cudnn: %s\n", last_error);
    return CUDNN_STATUS_BAD_PARAM;
}

static void note(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof line) length = sizeof line - 1;
    pthread_mutex_lock(&lock);
    if (noted + length + 2 > room) notes = realloc(notes, room = 2 * (noted + length + 2));
    memcpy(notes + noted, line, length);
    noted += length;
    notes[noted++] = '\n';
    notes[noted] = 0;
    pthread_mutex_unlock(&lock);
}

/* Calls since the last fake_cudnn_clear(), a line each; and how many descriptors there are. */
API const char *fake_cudnn_log(void) { return notes ? notes : ""; }
API void fake_cudnn_clear(void) { noted = 0; if (notes) *notes = 0; }
API long fake_cudnn_alive(void) { return alive; }

/* ---- handles and descriptors ---- */

enum kind { HANDLE = 0x600d0000, TENSOR, FILTER, CONVOLUTION, POOLING, ACTIVATION, DROPOUT };

struct cudnnContext { enum kind kind; void *stream; };
struct cudnnTensorStruct {
    enum kind kind;
    int set, type, n, dims[MOST], strides[MOST];
    int derived, of_type, mode, of_dims[MOST];      /* of batch normalization's statistics: from what */
};
struct cudnnFilterStruct { enum kind kind; int set, type, format, n, dims[MOST]; };
struct cudnnConvolutionStruct {
    enum kind kind;
    int set, n, pad[3], stride[3], dilation[3], mode, type, groups, math;
};
struct cudnnPoolingStruct { enum kind kind; int set, mode, nan, n, window[3], pad[3], stride[3]; };
struct cudnnActivationStruct { enum kind kind; int set, mode, nan; double coef; };
struct cudnnDropoutStruct { enum kind kind; float ratio; void *states; };

typedef struct cudnnTensorStruct Tensor;

static void *make(enum kind kind, size_t size)
{
    enum kind *made = calloc(1, size);
    *made = kind;
    __atomic_add_fetch(&alive, kind != HANDLE, __ATOMIC_RELAXED);
    return made;
}

static cudnnStatus_t destroy(const char *function, void *descriptor, enum kind kind)
{
    if (!descriptor || *(enum kind *)descriptor != kind)
        return refuse(function, "its descriptor", "another was given");
    *(enum kind *)descriptor = 0;
    free(descriptor);
    __atomic_sub_fetch(&alive, 1, __ATOMIC_RELAXED);
    return OK;
}

#define DESCRIPTOR(Name, KIND) \
    API cudnnStatus_t cudnnCreate##Name##Descriptor(cudnn##Name##Descriptor_t *made) \
    { *made = make(KIND, sizeof **made); return OK; } \
    API cudnnStatus_t cudnnDestroy##Name##Descriptor(cudnn##Name##Descriptor_t descriptor) \
    { return destroy(__func__, descriptor, KIND); }
DESCRIPTOR(Tensor, TENSOR)
DESCRIPTOR(Filter, FILTER)
DESCRIPTOR(Convolution, CONVOLUTION)
DESCRIPTOR(Pooling, POOLING)
DESCRIPTOR(Activation, ACTIVATION)
DESCRIPTOR(Dropout, DROPOUT)

#define NEED_HANDLE(handle) NEED((handle) && (handle)->kind == HANDLE, "not a handle")
#define NEED_SET(d, KIND) NEED((d) && (d)->kind == KIND && (d)->set, "another kind, or not set")

API size_t cudnnGetVersion(void) { return 90000; }

API const char *cudnnGetErrorString(cudnnStatus_t status)
{
    return status == OK ? "CUDNN_STATUS_SUCCESS" : status == CUDNN_STATUS_BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM"
        : status == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_EXECUTION_FAILED";
}

API void cudnnGetLastErrorString(char *message, size_t size) { snprintf(message, size, "%s", last_error); }

API cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) { *handle = make(HANDLE, sizeof **handle); return OK; }

API cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    NEED_HANDLE(handle);
    handle->stream = stream;
    return OK;
}

API cudnnStatus_t cudnnQueryRuntimeError(cudnnHandle_t handle, cudnnStatus_t *status, cudnnErrQueryMode_t mode,
                                         cudnnRuntimeTag_t *tag)
{
    NEED_HANDLE(handle);
    NEED(status && mode == CUDNN_ERRQUERY_BLOCKING && !tag, "mode %d", (int)mode);
    *status = OK;
    note("QueryRuntimeError");
    return OK;
}

static cudnnStatus_t submit(cudnnHandle_t handle, void (*run)(const void *), const void *args, size_t size)
{
    if (!emulator_submit)
        run(args);
    else if (emulator_submit(handle->stream, run, args, size))
        return CUDNN_STATUS_EXECUTION_FAILED;
    return OK;
}

static int known_type(int type)
{
    return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE || type == CUDNN_DATA_HALF;
}

static int item_size(int type) { return type == CUDNN_DATA_DOUBLE ? 8 : type == CUDNN_DATA_HALF ? 2 : 4; }

API cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t d, cudnnDataType_t type, int n,
                                             const int dims[], const int strides[])
{
    NEED(d && d->kind == TENSOR, "another kind");
    NEED(known_type(type), "type %d", (int)type);
    NEED(n >= 4 && n <= MOST, "%d dims", n);
    d->set = 1, d->type = type, d->n = n, d->derived = 0;
    for (int i = 0; i < n; i++) {
        NEED(dims[i] > 0 && strides[i] > 0, "dim %d: %d, stride %d", i, dims[i], strides[i]);
        d->dims[i] = dims[i], d->strides[i] = strides[i];
    }
    return OK;
}

API cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type,
                                             cudnnTensorFormat_t format, int n, const int dims[])
{
    NEED(d && d->kind == FILTER, "another kind");
    NEED(known_type(type) && (format == CUDNN_TENSOR_NCHW || format == CUDNN_TENSOR_NHWC),
         "type %d, format %d", (int)type, (int)format);
    NEED(n >= 4 && n <= MOST, "%d dims", n);
    d->set = 1, d->type = type, d->format = format, d->n = n;
    for (int i = 0; i < n; i++) {
        NEED(dims[i] > 0, "dim %d: %d", i, dims[i]);
        d->dims[i] = dims[i];
    }
    return OK;
}

API cudnnStatus_t cudnnSetConvolutionNdDescriptor(
    cudnnConvolutionDescriptor_t d, int n, const int pad[], const int stride[], const int dilation[],
    cudnnConvolutionMode_t mode, cudnnDataType_t type)
{
    NEED(d && d->kind == CONVOLUTION, "another kind");
    NEED(n >= 2 && n <= 3, "%d spatial dims", n);
    NEED(mode == CUDNN_CROSS_CORRELATION, "mode %d", (int)mode);
    NEED(type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE, "compute type %d", (int)type);
    d->set = 1, d->n = n, d->mode = mode, d->type = type, d->groups = 1, d->math = CUDNN_DEFAULT_MATH;
    for (int i = 0; i < n; i++) {
        NEED(pad[i] >= 0 && stride[i] > 0 && dilation[i] > 0, "%d, %d, %d", pad[i], stride[i], dilation[i]);
        d->pad[i] = pad[i], d->stride[i] = stride[i], d->dilation[i] = dilation[i];
    }
    return OK;
}

API cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups)
{
    NEED_SET(d, CONVOLUTION);
    NEED(groups > 0, "%d", groups);
    d->groups = groups;
    return OK;
}

API cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math)
{
    NEED_SET(d, CONVOLUTION);
    NEED((int)math >= 0 && math <= CUDNN_FMA_MATH, "%d", (int)math);
    d->math = math;
    return OK;
}

API cudnnStatus_t cudnnSetPoolingNdDescriptor(
    cudnnPoolingDescriptor_t d, const cudnnPoolingMode_t mode, const cudnnNanPropagation_t nan, int n,
    const int window[], const int pad[], const int stride[])
{
    NEED(d && d->kind == POOLING, "another kind");
    NEED(n >= 2 && n <= 3 && (int)mode >= 0 && mode <= CUDNN_POOLING_MAX_DETERMINISTIC, "mode %d", (int)mode);
    d->set = 1, d->mode = mode, d->nan = nan, d->n = n;
    for (int i = 0; i < n; i++) {
        NEED(window[i] > 0 && pad[i] >= 0 && stride[i] > 0, "%d, %d, %d", window[i], pad[i], stride[i]);
        d->window[i] = window[i], d->pad[i] = pad[i], d->stride[i] = stride[i];
    }
    return OK;
}

API cudnnStatus_t cudnnSetActivationDescriptor(cudnnActivationDescriptor_t d, cudnnActivationMode_t mode,
                                               cudnnNanPropagation_t nan, double coef)
{
    NEED(d && d->kind == ACTIVATION, "another kind");
    NEED((int)mode >= 0 && mode <= CUDNN_ACTIVATION_CLIPPED_RELU, "mode %d", (int)mode);
    d->set = 1, d->mode = mode, d->nan = nan, d->coef = coef;
    return OK;
}

/* ---- arrays ---- */

static double load(int type, const void *data, long i)
{
    return type == CUDNN_DATA_DOUBLE ? ((const double *)data)[i]
        : type == CUDNN_DATA_FLOAT ? ((const float *)data)[i] : (double)((const _Float16 *)data)[i];
}

static void store(int type, void *data, long i, double value)
{
    if (type == CUDNN_DATA_DOUBLE) ((double *)data)[i] = value;
    else if (type == CUDNN_DATA_FLOAT) ((float *)data)[i] = (float)value;
    else ((_Float16 *)data)[i] = (_Float16)value;
}

static long count(const Tensor *t)
{
    long n = 1;
    for (int i = 0; i < t->n; i++) n *= t->dims[i];
    return n;
}

/* Bit 0: channels first, bit 1: channels last, packed; of one dim of size 1, any stride will do. */
static int orders(const Tensor *t)
{
    int found = 0;
    for (int order = 0; order < 2; order++) {
        long step = 1;
        int fits = 1;
        for (int i = t->n - 1; i >= 0; i--) {
            /* NHWC: channels are quickest, then the spatial dims from the last */
            int axis = order == 0 || i == 0 ? i : i == t->n - 1 ? 1 : i + 1;
            fits &= t->dims[axis] == 1 || t->strides[axis] == step;
            step *= t->dims[axis];
        }
        found |= fits << order;
    }
    return found;
}

static int same_dims(const Tensor *a, const Tensor *b)
{
    return a->n == b->n && a->type == b->type && !memcmp(a->dims, b->dims, a->n * sizeof(int));
}

static int same(const Tensor *a, const Tensor *b)
{
    return same_dims(a, b) && !memcmp(a->strides, b->strides, a->n * sizeof(int));
}

static const char *written(const Tensor *t)
{
    static _Thread_local char texts[4][80];
    static _Thread_local int next;
    char *text = texts[next++ % 4];
    int length = 0;
    for (int i = 0; i < t->n; i++) length += sprintf(text + length, i ? ",%d" : "%d", t->dims[i]);
    sprintf(text + length, "/%s/%s", orders(t) == 3 ? "any" : orders(t) == 2 ? "NHWC" : "NCHW",
            t->type == CUDNN_DATA_DOUBLE ? "double" : t->type == CUDNN_DATA_HALF ? "half" : "float");
    return text;
}

static int on_device(const void *start, size_t size)
{
    return !size || (start && (!emulator_on_device || emulator_on_device(start, size)));
}

static int holds(const Tensor *t, const void *data)
{
    long last = 0;
    for (int i = 0; i < t->n; i++) last += (long)(t->dims[i] - 1) * t->strides[i];
    return (uintptr_t)data % item_size(t->type) == 0 && on_device(data, (last + 1) * item_size(t->type));
}

/* A scaling factor: a double for double data, else a float. */
static double factor(int type, const void *value)
{
    return !value ? NAN : type == CUDNN_DATA_DOUBLE ? *(const double *)value : *(const float *)value;
}

#define NEED_FACTORS(type, alpha, beta) NEED(factor(type, alpha) == 1 && factor(type, beta) == 0, \
    "%g and %g", factor(type, alpha), factor(type, beta))
#define NEED_DATA(d, data) NEED(holds(d, data), "no device memory for %s at %p", written(d), (const void *)(data))
#define NEED_ROOM(start, size, least) NEED((size) >= (size_t)(least) && on_device(start, size), \
    "%zu bytes at %p, not %zu", (size_t)(size), (const void *)(start), (size_t)(least))

/* The offset in elements of the i-th element in the order of dims. */
static long offset(const Tensor *t, long i)
{
    long at = 0;
    for (int axis = t->n - 1; axis >= 0; axis--) {
        at += i % t->dims[axis] * t->strides[axis];
        i /= t->dims[axis];
    }
    return at;
}

/* A packed copy in doubles, channels first. */
static double *unpack(const Tensor *t, const void *data)
{
    long n = count(t);
    double *values = malloc(n * sizeof *values);
    for (long i = 0; i < n; i++) values[i] = load(t->type, data, offset(t, i));
    return values;
}

static void pack(const Tensor *t, void *data, double *values)
{
    long n = count(t);
    for (long i = 0; i < n; i++) store(t->type, data, offset(t, i), values[i]);
    free(values);
}

/* The filter as a tensor with strides of its format. */
static Tensor of_filter(const struct cudnnFilterStruct *f)
{
    Tensor t = {.kind = TENSOR, .set = 1, .type = f->type, .n = f->n};
    int step = 1;
    memcpy(t.dims, f->dims, sizeof t.dims);
    for (int i = f->n - 1; i >= 0; i--) {
        int axis = f->format == CUDNN_TENSOR_NCHW || i == 0 ? i : i == f->n - 1 ? 1 : i + 1;
        t.strides[axis] = step;
        step *= t.dims[axis];
    }
    return t;
}

/* ---- convolution ---- */

enum direction { FORWARD, BACKWARD_DATA, BACKWARD_FILTER };

typedef struct {
    enum direction direction;
    Tensor x, w, y;
    struct cudnnConvolutionStruct c;
    void *x_data, *w_data, *y_data, *workspace;
    size_t workspace_size;
} Convolve;

/* With three spatial dims, the first of which may be 1; rows of y at a time. */
static void run_convolve(const void *args)
{
    const Convolve *a = args;
    int extra = 3 - a->c.n, in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
    int pad[3] = {0}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};
    for (int i = extra; i < 3; i++) {
        in[i] = a->x.dims[2 + i - extra], out[i] = a->y.dims[2 + i - extra], kernel[i] = a->w.dims[2 + i - extra];
        pad[i] = a->c.pad[i - extra], stride[i] = a->c.stride[i - extra], dilation[i] = a->c.dilation[i - extra];
    }
    if (a->workspace) memset(a->workspace, 0xff, a->workspace_size);
    double *x = unpack(&a->x, a->x_data), *w = unpack(&a->w, a->w_data), *y = unpack(&a->y, a->y_data);
    const Tensor *result = a->direction == FORWARD ? &a->y : a->direction == BACKWARD_DATA ? &a->x : &a->w;
    memset(result == &a->y ? y : result == &a->x ? x : w, 0, count(result) * sizeof(double));
    int n_out = a->w.dims[0], n_in = a->w.dims[1], per_group = n_out / a->c.groups;
    long x_map = (long)in[0] * in[1] * in[2], y_map = (long)out[0] * out[1] * out[2];
    for (int n = 0; n < a->x.dims[0]; n++)
    for (int k = 0; k < n_out; k++)
    for (int c = 0; c < n_in; c++) {
        double *xs = x + ((long)n * a->x.dims[1] + k / per_group * n_in + c) * x_map;
        double *ys = y + ((long)n * n_out + k) * y_map;
        double *ws = w + ((long)k * n_in + c) * kernel[0] * kernel[1] * kernel[2];
        for (int d = 0; d < kernel[0]; d++)
        for (int i = 0; i < kernel[1]; i++)
        for (int j = 0; j < kernel[2]; j++, ws++)
        for (int p = 0; p < out[0]; p++)
        for (int q = 0; q < out[1]; q++) {
            int from_p = p * stride[0] - pad[0] + d * dilation[0], from_q = q * stride[1] - pad[1] + i * dilation[1];
            if (from_p < 0 || from_p >= in[0] || from_q < 0 || from_q >= in[1]) continue;
            int shift = j * dilation[2] - pad[2], first = 0, last = out[2];
            while (first < last && first * stride[2] + shift < 0) first++;
            while (last > first && (last - 1) * stride[2] + shift >= in[2]) last--;
            double *x_row = xs + ((long)from_p * in[1] + from_q) * in[2] + shift;
            double *y_row = ys + ((long)p * out[1] + q) * out[2], sum = 0, weight = *ws;
            if (a->direction == FORWARD)
                for (int r = first; r < last; r++) y_row[r] += weight * x_row[(long)r * stride[2]];
            else if (a->direction == BACKWARD_DATA)
                for (int r = first; r < last; r++) x_row[(long)r * stride[2]] += weight * y_row[r];
            else {
                for (int r = first; r < last; r++) sum += y_row[r] * x_row[(long)r * stride[2]];
                *ws += sum;
            }
        }
    }
    if (result == &a->x) pack(&a->x, a->x_data, x); else free(x);
    if (result == &a->w) pack(&a->w, a->w_data, w); else free(w);
    if (result == &a->y) pack(&a->y, a->y_data, y); else free(y);
}

static cudnnStatus_t check_convolution(Tensor *x, const struct cudnnFilterStruct *f, Tensor *y,
                                       const struct cudnnConvolutionStruct *c)
{
    NEED_SET(x, TENSOR);
    NEED_SET(f, FILTER);
    NEED_SET(y, TENSOR);
    NEED_SET(c, CONVOLUTION);
    NEED(x->type == f->type && y->type == f->type, "types %d, %d, %d", x->type, f->type, y->type);
    NEED(c->type == (f->type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT), "compute type %d", c->type);
    NEED(f->type == CUDNN_DATA_HALF || c->math != CUDNN_TENSOR_OP_MATH, "math type %d", c->math);
    NEED(x->n == c->n + 2 && y->n == x->n && f->n == x->n, "%d, %d, %d dims", x->n, f->n, y->n);
    NEED(x->dims[1] == f->dims[1] * c->groups && f->dims[0] % c->groups == 0,
         "%d channels, %d x %d filters, %d groups", x->dims[1], f->dims[0], f->dims[1], c->groups);
    NEED(y->dims[0] == x->dims[0] && y->dims[1] == f->dims[0], "output %s", written(y));
    for (int i = 0; i < c->n; i++) {
        int span = (f->dims[2 + i] - 1) * c->dilation[i] + 1;
        int out = (x->dims[2 + i] + 2 * c->pad[i] - span) / c->stride[i] + 1;
        NEED(y->dims[2 + i] == out, "spatial dim %d: %d, not %d", i, y->dims[2 + i], out);
    }
    Tensor w = of_filter(f);
    NEED(orders(x) & orders(y) & orders(&w), "different or unpacked orders: %s, %s, %s",
         written(x), written(&w), written(y));
    return OK;
}

typedef cudnnConvolutionFwdAlgoPerf_t Perf;

/* What there is, the best first: one that fails, one that is not repeatable (but forward, all are), one
   that needs a workspace, one that needs none. A search that times finds them in the opposite order. */
static int algorithms(enum direction direction, const Tensor *out, int math, Perf *found)
{
    static const int numbers[3][4] = {
        {CUDNN_CONVOLUTION_FWD_ALGO_FFT, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
         CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM},
        {CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
         CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1},
        {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
         CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1}};
    size_t bytes = count(out) * item_size(out->type) + 512;
    for (int i = 0; i < 4; i++) {
        memset(&found[i], 0, sizeof found[i]);
        found[i].algo = numbers[direction][i];
        found[i].status = i == 0 ? CUDNN_STATUS_NOT_SUPPORTED : OK;
        found[i].time = i == 0 ? -1 : i;
        found[i].memory = i == 0 ? 0 : i == 1 ? 2 * bytes : i == 2 ? bytes : 0;
        found[i].determinism = i == 1 && direction != FORWARD ? CUDNN_NON_DETERMINISTIC : CUDNN_DETERMINISTIC;
        found[i].mathType = math == CUDNN_TENSOR_OP_MATH && i == 3 ? CUDNN_DEFAULT_MATH : math;
    }
    return 4;
}

static cudnnStatus_t list(const char *function, enum direction direction, const Tensor *out, int math, int most,
                          int *returned, Perf *results, int timed, size_t limit)
{
    Perf found[4];
    int n = algorithms(direction, out, math, found);
    NEED(most >= 1 && returned && results, "%s: %d results", function, most);
    *returned = 0;
    for (int i = 0; i < n && *returned < most; i++) {
        Perf perf = found[timed ? n - 1 - i : i];
        if (perf.memory <= limit) results[(*returned)++] = perf;
    }
    note("%s", function + strlen("cudnn"));
    return OK;
}

static cudnnStatus_t convolve(cudnnHandle_t handle, const char *function, Convolve job, int algo, const void *alpha,
                              const void *beta)
{
    Perf found[4];
    const Tensor *out = job.direction == FORWARD ? &job.y : job.direction == BACKWARD_DATA ? &job.x : &job.w;
    int n = algorithms(job.direction, out, job.c.math, found), at = -1;
    NEED_FACTORS(job.x.type, alpha, beta);
    NEED_DATA(&job.x, job.x_data);
    NEED_DATA(&job.w, job.w_data);
    NEED_DATA(&job.y, job.y_data);
    for (int i = 0; i < n; i++) if ((int)found[i].algo == algo) at = i;
    NEED(at >= 0 && found[at].status == OK, "algorithm %d", algo);
    NEED_ROOM(job.workspace, job.workspace_size, found[at].memory);
    note("%s algo=%d math=%d groups=%d x=%s w=%s y=%s stream=%p", function + strlen("cudnn"), algo, job.c.math,
         job.c.groups, written(&job.x), written(&job.w), written(&job.y), handle->stream);
    return submit(handle, run_convolve, &job, sizeof job);
}

#define VOID(data) ((void *)(data))

API cudnnStatus_t cudnnConvolutionForward(
    cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t xd, const void *x,
    const cudnnFilterDescriptor_t wd, const void *w, const cudnnConvolutionDescriptor_t cd,
    cudnnConvolutionFwdAlgo_t algo, void *workspace, size_t size, const void *beta,
    const cudnnTensorDescriptor_t yd, void *y)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(xd, wd, yd, cd));
    Convolve job = {FORWARD, *xd, of_filter(wd), *yd, *cd, VOID(x), VOID(w), y, workspace, size};
    return convolve(handle, __func__, job, algo, alpha, beta);
}

API cudnnStatus_t cudnnConvolutionBackwardData(
    cudnnHandle_t handle, const void *alpha, const cudnnFilterDescriptor_t wd, const void *w,
    const cudnnTensorDescriptor_t dyd, const void *dy, const cudnnConvolutionDescriptor_t cd,
    cudnnConvolutionBwdDataAlgo_t algo, void *workspace, size_t size, const void *beta,
    const cudnnTensorDescriptor_t dxd, void *dx)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(dxd, wd, dyd, cd));
    Convolve job = {BACKWARD_DATA, *dxd, of_filter(wd), *dyd, *cd, dx, VOID(w), VOID(dy), workspace, size};
    return convolve(handle, __func__, job, algo, alpha, beta);
}

API cudnnStatus_t cudnnConvolutionBackwardFilter(
    cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t xd, const void *x,
    const cudnnTensorDescriptor_t dyd, const void *dy, const cudnnConvolutionDescriptor_t cd,
    cudnnConvolutionBwdFilterAlgo_t algo, void *workspace, size_t size, const void *beta,
    const cudnnFilterDescriptor_t dwd, void *dw)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(xd, dwd, dyd, cd));
    Convolve job = {BACKWARD_FILTER, *xd, of_filter(dwd), *dyd, *cd, VOID(x), dw, VOID(dy), workspace, size};
    return convolve(handle, __func__, job, algo, alpha, beta);
}

API cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t xd, const cudnnFilterDescriptor_t wd,
    const cudnnConvolutionDescriptor_t cd, const cudnnTensorDescriptor_t yd, const int most, int *returned,
    cudnnConvolutionFwdAlgoPerf_t *results)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(xd, wd, yd, cd));
    return list(__func__, FORWARD, yd, cd->math, most, returned, (Perf *)results, 0, SIZE_MAX);
}

API cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t wd, const cudnnTensorDescriptor_t dyd,
    const cudnnConvolutionDescriptor_t cd, const cudnnTensorDescriptor_t dxd, const int most, int *returned,
    cudnnConvolutionBwdDataAlgoPerf_t *results)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(dxd, wd, dyd, cd));
    return list(__func__, BACKWARD_DATA, dxd, cd->math, most, returned, (Perf *)results, 0, SIZE_MAX);
}

API cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t xd, const cudnnTensorDescriptor_t dyd,
    const cudnnConvolutionDescriptor_t cd, const cudnnFilterDescriptor_t dwd, const int most, int *returned,
    cudnnConvolutionBwdFilterAlgoPerf_t *results)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(xd, dwd, dyd, cd));
    Tensor w = of_filter(dwd);
    return list(__func__, BACKWARD_FILTER, &w, cd->math, most, returned, (Perf *)results, 0, SIZE_MAX);
}

/* A search runs on the arrays: it spoils the output and the workspace, at once, as it waits for the device. */
static cudnnStatus_t search(const char *function, enum direction direction, const Tensor *out, void *data,
                            const void *first, const void *second, int math, int most, int *returned,
                            Perf *results, void *workspace, size_t size)
{
    NEED(holds(out, data) && first && second, "%s", function);
    NEED(on_device(workspace, size), "%zu bytes at %p", size, workspace);
    memset(data, 0xff, count(out) * item_size(out->type));
    if (workspace) memset(workspace, 0xff, size);
    return list(function, direction, out, math, most, returned, results, 1, size);
}

API cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t xd, const void *x, const cudnnFilterDescriptor_t wd,
    const void *w, const cudnnConvolutionDescriptor_t cd, const cudnnTensorDescriptor_t yd, void *y,
    const int most, int *returned, cudnnConvolutionFwdAlgoPerf_t *results, void *workspace, size_t size)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(xd, wd, yd, cd));
    return search(__func__, FORWARD, yd, y, x, w, cd->math, most, returned, (Perf *)results, workspace, size);
}

API cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t wd, const void *w, const cudnnTensorDescriptor_t dyd,
    const void *dy, const cudnnConvolutionDescriptor_t cd, const cudnnTensorDescriptor_t dxd, void *dx,
    const int most, int *returned, cudnnConvolutionBwdDataAlgoPerf_t *results, void *workspace, size_t size)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(dxd, wd, dyd, cd));
    return search(__func__, BACKWARD_DATA, dxd, dx, w, dy, cd->math, most, returned, (Perf *)results, workspace,
                  size);
}

API cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t xd, const void *x, const cudnnTensorDescriptor_t dyd,
    const void *dy, const cudnnConvolutionDescriptor_t cd, const cudnnFilterDescriptor_t dwd, void *dw,
    const int most, int *returned, cudnnConvolutionBwdFilterAlgoPerf_t *results, void *workspace, size_t size)
{
    NEED_HANDLE(handle);
    TRY(check_convolution(xd, dwd, dyd, cd));
    Tensor w = of_filter(dwd);
    return search(__func__, BACKWARD_FILTER, &w, dw, x, dy, cd->math, most, returned, (Perf *)results, workspace,
                  size);
}

typedef struct { Tensor a, c; void *from, *to; } Add;

static void run_add(const void *args)
{
    const Add *job = args;
    double *values = unpack(&job->c, job->to);
    long map = count(&job->c) / job->c.dims[0] / job->c.dims[1];
    for (long i = 0; i < count(&job->c); i++)
        values[i] += load(job->a.type, job->from, i / map % job->c.dims[1] * job->a.strides[1]);
    pack(&job->c, job->to, values);
}

API cudnnStatus_t cudnnAddTensor(cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t ad,
                                 const void *a, const void *beta, const cudnnTensorDescriptor_t cd, void *c)
{
    NEED_HANDLE(handle);
    NEED_SET(ad, TENSOR);
    NEED_SET(cd, TENSOR);
    NEED(ad->type == cd->type && ad->n == cd->n && ad->dims[1] == cd->dims[1] && count(ad) == ad->dims[1],
         "%s to %s", written(ad), written(cd));
    NEED(factor(ad->type, alpha) == 1 && factor(ad->type, beta) == 1, "%g", factor(ad->type, beta));
    NEED_DATA(ad, a);
    NEED_DATA(cd, c);
    Add job = {*ad, *cd, VOID(a), c};
    note("AddTensor c=%s", written(cd));
    return submit(handle, run_add, &job, sizeof job);
}

/* ---- batch normalization ---- */

API cudnnStatus_t cudnnDeriveBNTensorDescriptor(cudnnTensorDescriptor_t d, const cudnnTensorDescriptor_t xd,
                                                cudnnBatchNormMode_t mode)
{
    NEED(d && d->kind == TENSOR, "another kind");
    NEED_SET(xd, TENSOR);
    NEED((int)mode >= 0 && mode <= CUDNN_BATCHNORM_SPATIAL_PERSISTENT, "mode %d", (int)mode);
    int step = 1;
    d->set = 1, d->n = xd->n, d->type = xd->type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
    d->derived = 1, d->mode = mode, d->of_type = xd->type;
    memcpy(d->of_dims, xd->dims, sizeof d->of_dims);
    for (int i = d->n - 1; i >= 0; i--) {
        d->dims[i] = i == 1 || (i > 1 && mode == CUDNN_BATCHNORM_PER_ACTIVATION) ? xd->dims[i] : 1;
        d->strides[i] = step;
        step *= d->dims[i];
    }
    return OK;
}

typedef struct {
    int per_activation;
    Tensor x;
    int type;
    const void *data, *dy, *scale, *shift;
    void *out, *mean, *inv_std, *running_mean, *running_var, *dscale, *dshift, *workspace, *reserve;
    double epsilon, rate;
    size_t workspace_size, reserve_size;
} Normalize;

static const uint32_t RESERVE_MARK = 0x5e5e55ed;

/* Calls visit(i, s) for the elements of every statistic s. */
#define EACH(job, s, i) \
    long n_all = count(&(job)->x), map = n_all / (job)->x.dims[0] / (job)->x.dims[1]; \
    long n_stats = (job)->per_activation ? n_all / (job)->x.dims[0] : (job)->x.dims[1], m = n_all / n_stats; \
    for (long s = 0; s < n_stats; s++)
#define ELEMENT(job, s, i) ((job)->per_activation ? (i) * n_stats + (s) \
    : ((i) / map * (job)->x.dims[1] + (s)) * map + (i) % map)

static void run_training(const void *args)
{
    const Normalize *job = args;
    double *x = unpack(&job->x, job->data);
    if (job->workspace) memset(job->workspace, 0xff, job->workspace_size);
    if (job->reserve) memcpy(memset(job->reserve, 0, job->reserve_size), &RESERVE_MARK, sizeof RESERVE_MARK);
    EACH(job, s, i) {
        double mean = 0, var = 0;
        for (long i = 0; i < m; i++) mean += x[ELEMENT(job, s, i)] / m;
        for (long i = 0; i < m; i++) var += pow(x[ELEMENT(job, s, i)] - mean, 2) / m;
        double inv_std = 1 / sqrt(var + job->epsilon), unbiased = m > 1 ? var * m / (m - 1) : var;
        double scale = load(job->type, job->scale, s), shift = load(job->type, job->shift, s), keep = 1 - job->rate;
        for (long i = 0; i < m; i++) {
            double *value = &x[ELEMENT(job, s, i)];
            *value = (*value - mean) * inv_std * scale + shift;
        }
        store(job->type, job->mean, s, mean);
        store(job->type, job->inv_std, s, inv_std);
        if (job->running_mean) {
            store(job->type, job->running_mean, s, keep * load(job->type, job->running_mean, s) + job->rate * mean);
            store(job->type, job->running_var, s, keep * load(job->type, job->running_var, s) + job->rate * unbiased);
        }
    }
    pack(&job->x, job->out, x);
}

static void run_inference(const void *args)
{
    const Normalize *job = args;
    double *x = unpack(&job->x, job->data);
    EACH(job, s, i) {
        double inv_std = 1 / sqrt(load(job->type, job->running_var, s) + job->epsilon);
        for (long i = 0; i < m; i++) {
            double *value = &x[ELEMENT(job, s, i)];
            *value = (*value - load(job->type, job->running_mean, s)) * inv_std * load(job->type, job->scale, s)
                + load(job->type, job->shift, s);
        }
    }
    pack(&job->x, job->out, x);
}

static void run_normalize_backward(const void *args)
{
    const Normalize *job = args;
    double *x = unpack(&job->x, job->data), *dy = unpack(&job->x, job->dy);
    uint32_t mark = RESERVE_MARK;
    if (job->workspace) memset(job->workspace, 0xff, job->workspace_size);
    if (job->reserve) memcpy(&mark, job->reserve, sizeof mark);
    if (mark != RESERVE_MARK) fprintf(stderr, "fake cudnn: the reserve is not that of a forward pass\n");
    EACH(job, s, i) {
        double mean = load(job->type, job->mean, s), inv_std = load(job->type, job->inv_std, s);
        double scale = mark == RESERVE_MARK ? load(job->type, job->scale, s) : NAN, dscale = 0, dshift = 0;
        for (long i = 0; i < m; i++) {
            long at = ELEMENT(job, s, i);
            dscale += dy[at] * (x[at] - mean) * inv_std;
            dshift += dy[at];
        }
        for (long i = 0; i < m; i++) {
            long at = ELEMENT(job, s, i);
            x[at] = scale * inv_std * (dy[at] - ((x[at] - mean) * inv_std * dscale + dshift) / m);
        }
        store(job->type, job->dscale, s, dscale);
        store(job->type, job->dshift, s, dshift);
    }
    free(dy);
    pack(&job->x, job->out, x);
}

static cudnnStatus_t check_normalize(cudnnHandle_t handle, int mode, const Tensor *x, const Tensor *s)
{
    NEED_HANDLE(handle);
    NEED_SET(x, TENSOR);
    NEED_SET(s, TENSOR);
    NEED(orders(x), "unpacked %s", written(x));
    NEED(s->derived && s->mode == mode && s->of_type == x->type && s->n == x->n
         && !memcmp(s->of_dims, x->dims, x->n * sizeof(int)), "statistics %s of another tensor or mode", written(s));
    return OK;
}

/* Only of Ex; nothing where statistics are per activation. */
static size_t normalize_workspace(int mode, const Tensor *x, int backward)
{
    return mode == CUDNN_BATCHNORM_PER_ACTIVATION ? 0 : (backward ? 32 : 16) * x->dims[1] + 64;
}

static size_t normalize_reserve(int mode, const Tensor *x)
{
    return mode == CUDNN_BATCHNORM_PER_ACTIVATION ? 0 : (count(x) + 31) / 32 * 4;
}

API cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t xd,
    const cudnnTensorDescriptor_t zd, const cudnnTensorDescriptor_t yd, const cudnnTensorDescriptor_t sd,
    const cudnnActivationDescriptor_t activation, size_t *size)
{
    TRY(check_normalize(handle, mode, xd, sd));
    NEED(ops == CUDNN_BATCHNORM_OPS_BN && !zd && !activation && yd && same(xd, yd) && size, "ops %d", (int)ops);
    *size = normalize_workspace(mode, xd, 0);
    return OK;
}

API cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t xd,
    const cudnnTensorDescriptor_t yd, const cudnnTensorDescriptor_t dyd, const cudnnTensorDescriptor_t dzd,
    const cudnnTensorDescriptor_t dxd, const cudnnTensorDescriptor_t sd,
    const cudnnActivationDescriptor_t activation, size_t *size)
{
    TRY(check_normalize(handle, mode, xd, sd));
    NEED(ops == CUDNN_BATCHNORM_OPS_BN && !yd && !dzd && !activation && dyd && same(xd, dyd) && dxd
         && same(xd, dxd) && size, "ops %d", (int)ops);
    *size = normalize_workspace(mode, xd, 1);
    return OK;
}

API cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops,
    const cudnnActivationDescriptor_t activation, const cudnnTensorDescriptor_t xd, size_t *size)
{
    NEED_HANDLE(handle);
    NEED_SET(xd, TENSOR);
    NEED(ops == CUDNN_BATCHNORM_OPS_BN && !activation && size, "ops %d", (int)ops);
    *size = normalize_reserve(mode, xd);
    return OK;
}

static cudnnStatus_t training(const char *function, cudnnHandle_t handle, int mode, const void *alpha,
                              const void *beta, const Tensor *xd, const Tensor *yd, const Tensor *sd, Normalize job)
{
    TRY(check_normalize(handle, mode, xd, sd));
    NEED(yd && same(xd, yd), "x and y differ");
    NEED_FACTORS(xd->type, alpha, beta);
    NEED_DATA(xd, job.data);
    NEED_DATA(xd, job.out);
    NEED_DATA(sd, job.scale);
    NEED_DATA(sd, job.shift);
    NEED_DATA(sd, job.mean);
    NEED_DATA(sd, job.inv_std);
    NEED(!job.running_mean == !job.running_var, "one running statistic of two");
    NEED(job.epsilon >= 0 && job.rate >= 0 && job.rate <= 1, "epsilon %g, factor %g", job.epsilon, job.rate);
    job.x = *xd, job.type = sd->type, job.per_activation = mode == CUDNN_BATCHNORM_PER_ACTIVATION;
    note("%s mode=%d x=%s stream=%p", function + strlen("cudnn"), mode, written(xd), handle->stream);
    return submit(handle, run_training, &job, sizeof job);
}

API cudnnStatus_t cudnnBatchNormalizationForwardTraining(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, const void *alpha, const void *beta,
    const cudnnTensorDescriptor_t xd, const void *x, const cudnnTensorDescriptor_t yd, void *y,
    const cudnnTensorDescriptor_t sd, const void *scale, const void *shift, double rate, void *running_mean,
    void *running_var, double epsilon, void *mean, void *inv_std)
{
    Normalize job = {.data = x, .out = y, .scale = scale, .shift = shift, .rate = rate, .epsilon = epsilon,
                     .running_mean = running_mean, .running_var = running_var, .mean = mean, .inv_std = inv_std};
    return training(__func__, handle, mode, alpha, beta, xd, yd, sd, job);
}

API cudnnStatus_t cudnnBatchNormalizationForwardTrainingEx(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const void *alpha, const void *beta,
    const cudnnTensorDescriptor_t xd, const void *x, const cudnnTensorDescriptor_t zd, const void *z,
    const cudnnTensorDescriptor_t yd, void *y, const cudnnTensorDescriptor_t sd, const void *scale,
    const void *shift, double rate, void *running_mean, void *running_var, double epsilon, void *mean,
    void *inv_std, cudnnActivationDescriptor_t activation, void *workspace, size_t workspace_size, void *reserve,
    size_t reserve_size)
{
    NEED_SET(xd, TENSOR);
    NEED(ops == CUDNN_BATCHNORM_OPS_BN && !zd && !z && !activation, "ops %d", (int)ops);
    NEED_ROOM(workspace, workspace_size, normalize_workspace(mode, xd, 0));
    NEED_ROOM(reserve, reserve_size, normalize_reserve(mode, xd));
    Normalize job = {.data = x, .out = y, .scale = scale, .shift = shift, .rate = rate, .epsilon = epsilon,
                     .running_mean = running_mean, .running_var = running_var, .mean = mean, .inv_std = inv_std,
                     .workspace = workspace, .workspace_size = workspace_size,
                     .reserve = reserve_size ? reserve : NULL, .reserve_size = reserve_size};
    return training(__func__, handle, mode, alpha, beta, xd, yd, sd, job);
}

API cudnnStatus_t cudnnBatchNormalizationForwardInference(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, const void *alpha, const void *beta,
    const cudnnTensorDescriptor_t xd, const void *x, const cudnnTensorDescriptor_t yd, void *y,
    const cudnnTensorDescriptor_t sd, const void *scale, const void *shift, const void *mean, const void *var,
    double epsilon)
{
    TRY(check_normalize(handle, mode, xd, sd));
    NEED(yd && same(xd, yd), "x and y differ");
    NEED_FACTORS(xd->type, alpha, beta);
    NEED_DATA(xd, x);
    NEED_DATA(xd, y);
    NEED(scale && shift && mean && var && epsilon >= 0, "epsilon %g", epsilon);
    Normalize job = {.per_activation = mode == CUDNN_BATCHNORM_PER_ACTIVATION, .x = *xd, .type = sd->type,
                     .data = x, .out = y, .scale = scale, .shift = shift, .running_mean = VOID(mean),
                     .running_var = VOID(var), .epsilon = epsilon};
    note("%s mode=%d x=%s", __func__ + strlen("cudnn"), (int)mode, written(xd));
    return submit(handle, run_inference, &job, sizeof job);
}

static cudnnStatus_t normalize_backward(const char *function, cudnnHandle_t handle, int mode,
                                        const void *const factors[4], const Tensor *xd, const Tensor *dyd,
                                        const Tensor *dxd, const Tensor *sd, Normalize job)
{
    TRY(check_normalize(handle, mode, xd, sd));
    NEED(dyd && same(xd, dyd) && dxd && same(xd, dxd), "x, dy and dx differ");
    NEED_FACTORS(xd->type, factors[0], factors[1]);
    NEED_FACTORS(xd->type, factors[2], factors[3]);
    NEED_DATA(xd, job.data);
    NEED_DATA(xd, job.dy);
    NEED_DATA(xd, job.out);
    NEED_DATA(sd, job.scale);
    NEED_DATA(sd, job.dscale);
    NEED_DATA(sd, job.dshift);
    NEED_DATA(sd, job.mean);
    NEED_DATA(sd, job.inv_std);
    NEED(job.epsilon >= 0, "epsilon %g", job.epsilon);
    job.x = *xd, job.type = sd->type, job.per_activation = mode == CUDNN_BATCHNORM_PER_ACTIVATION;
    note("%s mode=%d x=%s", function + strlen("cudnn"), mode, written(xd));
    return submit(handle, run_normalize_backward, &job, sizeof job);
}

API cudnnStatus_t cudnnBatchNormalizationBackward(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, const void *alpha, const void *beta, const void *alpha_p,
    const void *beta_p, const cudnnTensorDescriptor_t xd, const void *x, const cudnnTensorDescriptor_t dyd,
    const void *dy, const cudnnTensorDescriptor_t dxd, void *dx, const cudnnTensorDescriptor_t sd,
    const void *scale, void *dscale, void *dshift, double epsilon, const void *mean, const void *inv_std)
{
    Normalize job = {.data = x, .dy = dy, .out = dx, .scale = scale, .dscale = dscale, .dshift = dshift,
                     .epsilon = epsilon, .mean = VOID(mean), .inv_std = VOID(inv_std)};
    const void *factors[4] = {alpha, beta, alpha_p, beta_p};
    return normalize_backward(__func__, handle, mode, factors, xd, dyd, dxd, sd, job);
}

API cudnnStatus_t cudnnBatchNormalizationBackwardEx(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const void *alpha, const void *beta,
    const void *alpha_p, const void *beta_p, const cudnnTensorDescriptor_t xd, const void *x,
    const cudnnTensorDescriptor_t yd, const void *y, const cudnnTensorDescriptor_t dyd, const void *dy,
    const cudnnTensorDescriptor_t dzd, void *dz, const cudnnTensorDescriptor_t dxd, void *dx,
    const cudnnTensorDescriptor_t sd, const void *scale, const void *shift, void *dscale, void *dshift,
    double epsilon, const void *mean, const void *inv_std, cudnnActivationDescriptor_t activation, void *workspace,
    size_t workspace_size, void *reserve, size_t reserve_size)
{
    NEED_SET(xd, TENSOR);
    NEED(ops == CUDNN_BATCHNORM_OPS_BN && !yd && !y && !dzd && !dz && !shift && !activation, "ops %d", (int)ops);
    NEED_ROOM(workspace, workspace_size, normalize_workspace(mode, xd, 1));
    NEED_ROOM(reserve, reserve_size, normalize_reserve(mode, xd));
    Normalize job = {.data = x, .dy = dy, .out = dx, .scale = scale, .dscale = dscale, .dshift = dshift,
                     .epsilon = epsilon, .mean = VOID(mean), .inv_std = VOID(inv_std), .workspace = workspace,
                     .workspace_size = workspace_size, .reserve = reserve_size ? reserve : NULL,
                     .reserve_size = reserve_size};
    const void *factors[4] = {alpha, beta, alpha_p, beta_p};
    return normalize_backward(__func__, handle, mode, factors, xd, dyd, dxd, sd, job);
}

/* ---- pooling ---- */

typedef struct {
    int backward;
    Tensor x, y;
    struct cudnnPoolingStruct p;
    const void *x_data, *y_data, *dy_data;
    void *out;
} Pool;

static void run_pool(const void *args)
{
    const Pool *job = args;
    const struct cudnnPoolingStruct *p = &job->p;
    int extra = 3 - p->n, in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, window[3] = {1, 1, 1}, pad[3] = {0};
    int stride[3] = {1, 1, 1}, at[3];
    int maximum = p->mode == CUDNN_POOLING_MAX || p->mode == CUDNN_POOLING_MAX_DETERMINISTIC;
    for (int i = extra; i < 3; i++) {
        in[i] = job->x.dims[2 + i - extra], out[i] = job->y.dims[2 + i - extra];
        window[i] = p->window[i - extra], pad[i] = p->pad[i - extra], stride[i] = p->stride[i - extra];
    }
    double *x = unpack(&job->x, job->x_data), *dy = job->backward ? unpack(&job->y, job->dy_data) : NULL;
    double *y = malloc(count(&job->y) * sizeof *y), *dx = calloc(count(&job->x), sizeof *dx);
    long maps = (long)job->x.dims[0] * job->x.dims[1], x_map = (long)in[0] * in[1] * in[2], o = 0;
    for (long map = 0; map < maps; map++)
    for (at[0] = 0; at[0] < out[0]; at[0]++)
    for (at[1] = 0; at[1] < out[1]; at[1]++)
    for (at[2] = 0; at[2] < out[2]; at[2]++, o++) {
        int from[3], to[3], whole = window[0] * window[1] * window[2], inside = 1;
        for (int i = 0; i < 3; i++) {
            from[i] = at[i] * stride[i] - pad[i], to[i] = from[i] + window[i];
            if (from[i] < 0) from[i] = 0;
            if (to[i] > in[i]) to[i] = in[i];
            inside *= to[i] - from[i];
        }
        double sum = 0, best = -INFINITY, best_rank = -INFINITY;
        double share = p->mode == CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING ? 1.0 / whole : 1.0 / inside;
        long best_at = -1;
        for (int d = from[0]; d < to[0]; d++)
        for (int i = from[1]; i < to[1]; i++)
        for (int j = from[2]; j < to[2]; j++) {
            long index = map * x_map + ((long)d * in[1] + i) * in[2] + j;
            double value = x[index];
            sum += value;
            if (job->backward && !maximum) dx[index] += share * dy[o];
            double rank = !isnan(value) ? value : p->nan == CUDNN_PROPAGATE_NAN ? INFINITY : -INFINITY;
            if (best_at < 0 || rank > best_rank) best = value, best_rank = rank, best_at = index;
        }
        y[o] = maximum ? best : sum * share;
        if (job->backward && maximum) dx[best_at] += dy[o];
    }
    if (job->backward) pack(&job->x, job->out, dx), free(y); else pack(&job->y, job->out, y), free(dx);
    free(x);
    free(dy);
}

static cudnnStatus_t check_pool(cudnnHandle_t handle, const struct cudnnPoolingStruct *p, const Tensor *x,
                                const Tensor *y, const void *alpha, const void *beta)
{
    NEED_HANDLE(handle);
    NEED_SET(p, POOLING);
    NEED_SET(x, TENSOR);
    NEED_SET(y, TENSOR);
    NEED_FACTORS(x->type, alpha, beta);
    NEED(x->type == y->type && x->n == p->n + 2 && y->n == x->n && x->dims[0] == y->dims[0]
         && x->dims[1] == y->dims[1], "%s to %s", written(x), written(y));
    NEED(orders(x) & orders(y), "%s and %s", written(x), written(y));
    for (int i = 0; i < p->n; i++) {
        /* the library's own size, or one more window that begins within the map */
        int in = x->dims[2 + i], out = (in + 2 * p->pad[i] - p->window[i]) / p->stride[i] + 1, is = y->dims[2 + i];
        NEED(is == out || (is == out + 1 && out * p->stride[i] - p->pad[i] < in),
             "spatial dim %d: %d of %d", i, is, in);
    }
    return OK;
}

API cudnnStatus_t cudnnPoolingForward(
    cudnnHandle_t handle, const cudnnPoolingDescriptor_t pd, const void *alpha, const cudnnTensorDescriptor_t xd,
    const void *x, const void *beta, const cudnnTensorDescriptor_t yd, void *y)
{
    TRY(check_pool(handle, pd, xd, yd, alpha, beta));
    NEED_DATA(xd, x);
    NEED_DATA(yd, y);
    Pool job = {0, *xd, *yd, *pd, x, NULL, NULL, y};
    note("PoolingForward mode=%d x=%s y=%s", pd->mode, written(xd), written(yd));
    return submit(handle, run_pool, &job, sizeof job);
}

API cudnnStatus_t cudnnPoolingBackward(
    cudnnHandle_t handle, const cudnnPoolingDescriptor_t pd, const void *alpha, const cudnnTensorDescriptor_t yd,
    const void *y, const cudnnTensorDescriptor_t dyd, const void *dy, const cudnnTensorDescriptor_t xd,
    const void *x, const void *beta, const cudnnTensorDescriptor_t dxd, void *dx)
{
    TRY(check_pool(handle, pd, xd, yd, alpha, beta));
    NEED(dyd && same(yd, dyd) && dxd && same(xd, dxd), "gradients differ from values");
    NEED_DATA(xd, x);
    NEED_DATA(xd, dx);
    NEED_DATA(yd, y);
    NEED_DATA(yd, dy);
    Pool job = {1, *xd, *yd, *pd, x, y, dy, dx};
    note("PoolingBackward mode=%d x=%s y=%s", pd->mode, written(xd), written(yd));
    return submit(handle, run_pool, &job, sizeof job);
}

/* ---- activations and softmax ---- */

typedef struct {
    int what, backward;
    Tensor t;
    double coef;
    int nan;
    const void *x, *y, *dy;
    void *out;
} Elementwise;

static double activate(int mode, double coef, int nan, double x)
{
    if (isnan(x) && nan != CUDNN_PROPAGATE_NAN && mode != CUDNN_ACTIVATION_SIGMOID && mode != CUDNN_ACTIVATION_TANH)
        return 0;
    return mode == CUDNN_ACTIVATION_SIGMOID ? 1 / (1 + exp(-x)) : mode == CUDNN_ACTIVATION_TANH ? tanh(x)
        : x < 0 ? 0 : mode == CUDNN_ACTIVATION_CLIPPED_RELU && x > coef ? coef : x;
}

static double slope(int mode, double coef, double x, double y)
{
    return mode == CUDNN_ACTIVATION_SIGMOID ? y * (1 - y) : mode == CUDNN_ACTIVATION_TANH ? 1 - y * y
        : x > 0 && (mode == CUDNN_ACTIVATION_RELU || x < coef);
}

static void run_activation(const void *args)
{
    const Elementwise *job = args;
    int type = job->t.type;
    for (long i = 0; i < count(&job->t); i++) {
        double x = load(type, job->x, i);
        store(type, job->out, i, job->backward
              ? load(type, job->dy, i) * slope(job->what, job->coef, x, load(type, job->y, i))
              : activate(job->what, job->coef, job->nan, x));
    }
}

static cudnnStatus_t check_elementwise(cudnnHandle_t handle, const Tensor *a, const Tensor *b, const void *alpha,
                                       const void *beta)
{
    NEED_HANDLE(handle);
    NEED_SET(a, TENSOR);
    NEED_SET(b, TENSOR);
    NEED_FACTORS(a->type, alpha, beta);
    NEED(same(a, b) && orders(a) & 1, "%s and %s", written(a), written(b));
    return OK;
}

API cudnnStatus_t cudnnActivationForward(
    cudnnHandle_t handle, cudnnActivationDescriptor_t ad, const void *alpha, const cudnnTensorDescriptor_t xd,
    const void *x, const void *beta, const cudnnTensorDescriptor_t yd, void *y)
{
    TRY(check_elementwise(handle, xd, yd, alpha, beta));
    NEED_SET(ad, ACTIVATION);
    NEED_DATA(xd, x);
    NEED_DATA(yd, y);
    Elementwise job = {ad->mode, 0, *xd, ad->coef, ad->nan, x, NULL, NULL, y};
    note("ActivationForward mode=%d x=%s", ad->mode, written(xd));
    return submit(handle, run_activation, &job, sizeof job);
}

API cudnnStatus_t cudnnActivationBackward(
    cudnnHandle_t handle, cudnnActivationDescriptor_t ad, const void *alpha, const cudnnTensorDescriptor_t yd,
    const void *y, const cudnnTensorDescriptor_t dyd, const void *dy, const cudnnTensorDescriptor_t xd,
    const void *x, const void *beta, const cudnnTensorDescriptor_t dxd, void *dx)
{
    TRY(check_elementwise(handle, xd, dxd, alpha, beta));
    NEED_SET(ad, ACTIVATION);
    NEED(yd && same(xd, yd) && dyd && same(xd, dyd), "descriptors differ");
    NEED_DATA(xd, x);
    NEED_DATA(xd, y);
    NEED_DATA(xd, dy);
    NEED_DATA(xd, dx);
    Elementwise job = {ad->mode, 1, *xd, ad->coef, ad->nan, x, y, dy, dx};
    note("ActivationBackward mode=%d x=%s", ad->mode, written(xd));
    return submit(handle, run_activation, &job, sizeof job);
}

static void run_softmax(const void *args)
{
    const Elementwise *job = args;
    int type = job->t.type, n = job->t.dims[1], logarithm = job->what == CUDNN_SOFTMAX_LOG;
    long after = count(&job->t) / job->t.dims[0] / n, rows = count(&job->t) / n;
    for (long row = 0; row < rows; row++) {
        long start = row / after * n * after + row % after;
        double most = -INFINITY, sum = 0;
        for (int i = 0; i < n; i++) {
            long at = start + i * after;
            if (job->backward)
                sum += load(type, job->dy, at) * (logarithm ? 1 : load(type, job->y, at));
            else
                most = fmax(most, load(type, job->x, at));
        }
        for (int i = 0; i < n && !job->backward; i++) sum += exp(load(type, job->x, start + i * after) - most);
        for (int i = 0; i < n; i++) {
            long at = start + i * after;
            double y = job->backward ? load(type, job->y, at) : load(type, job->x, at) - most;
            double dy = job->backward ? load(type, job->dy, at) : 0;
            store(type, job->out, at, job->backward ? (logarithm ? dy - exp(y) * sum : y * (dy - sum))
                  : logarithm ? y - log(sum) : exp(y) / sum);
        }
    }
}

API cudnnStatus_t cudnnSoftmaxForward(
    cudnnHandle_t handle, cudnnSoftmaxAlgorithm_t algo, cudnnSoftmaxMode_t mode, const void *alpha,
    const cudnnTensorDescriptor_t xd, const void *x, const void *beta, const cudnnTensorDescriptor_t yd, void *y)
{
    TRY(check_elementwise(handle, xd, yd, alpha, beta));
    NEED((algo == CUDNN_SOFTMAX_ACCURATE || algo == CUDNN_SOFTMAX_LOG) && mode == CUDNN_SOFTMAX_MODE_CHANNEL,
         "%d, %d", (int)algo, (int)mode);
    NEED_DATA(xd, x);
    NEED_DATA(yd, y);
    Elementwise job = {algo, 0, *xd, 0, 0, x, NULL, NULL, y};
    note("SoftmaxForward algo=%d x=%s", (int)algo, written(xd));
    return submit(handle, run_softmax, &job, sizeof job);
}

API cudnnStatus_t cudnnSoftmaxBackward(
    cudnnHandle_t handle, cudnnSoftmaxAlgorithm_t algo, cudnnSoftmaxMode_t mode, const void *alpha,
    const cudnnTensorDescriptor_t yd, const void *y, const cudnnTensorDescriptor_t dyd, const void *dy,
    const void *beta, const cudnnTensorDescriptor_t dxd, void *dx)
{
    TRY(check_elementwise(handle, yd, dxd, alpha, beta));
    NEED((algo == CUDNN_SOFTMAX_ACCURATE || algo == CUDNN_SOFTMAX_LOG) && mode == CUDNN_SOFTMAX_MODE_CHANNEL,
         "%d, %d", (int)algo, (int)mode);
    NEED(dyd && same(yd, dyd), "y and dy differ");
    NEED_DATA(yd, y);
    NEED_DATA(yd, dy);
    NEED_DATA(yd, dx);
    Elementwise job = {algo, 1, *yd, 0, 0, NULL, y, dy, dx};
    note("SoftmaxBackward algo=%d x=%s", (int)algo, written(yd));
    return submit(handle, run_softmax, &job, sizeof job);
}

/* ---- dropout: the state is a counter in the device's memory, the mask a byte for each element ---- */

enum { STATES_SIZE = 1024 };
typedef struct { uint64_t *states; uint64_t seed; } Seed;
typedef struct { int backward; Tensor t; float ratio; uint64_t *states; const void *from; void *to; char *mask; } Drop;

static void run_seed(const void *args)
{
    const Seed *job = args;
    memset(job->states, 0, STATES_SIZE);
    *job->states = job->seed;
}

static void run_drop(const void *args)
{
    const Drop *job = args;
    for (long i = 0; i < count(&job->t); i++) {
        if (!job->backward) {
            uint64_t z = *job->states += 0x9e3779b97f4a7c15;      /* splitmix64 */
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            job->mask[i] = ldexp((z ^ (z >> 31)) >> 11, -53) >= job->ratio;
        }
        store(job->t.type, job->to, i, job->mask[i] ? load(job->t.type, job->from, i) / (1 - job->ratio) : 0);
    }
}

API cudnnStatus_t cudnnDropoutGetStatesSize(cudnnHandle_t handle, size_t *size)
{
    NEED_HANDLE(handle);
    *size = STATES_SIZE;
    return OK;
}

API cudnnStatus_t cudnnDropoutGetReserveSpaceSize(cudnnTensorDescriptor_t d, size_t *size)
{
    NEED_SET(d, TENSOR);
    *size = count(d);
    return OK;
}

API cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t d, cudnnHandle_t handle, float ratio,
                                            void *states, size_t size, unsigned long long seed)
{
    NEED_HANDLE(handle);
    NEED(d && d->kind == DROPOUT, "another kind");
    NEED(ratio >= 0 && ratio < 1, "%g", ratio);
    d->ratio = ratio;
    if (!states) {
        NEED(d->states, "no states yet");
        return OK;
    }
    NEED_ROOM(states, size, STATES_SIZE);
    d->states = states;
    Seed job = {states, seed};
    return submit(handle, run_seed, &job, sizeof job);
}

static cudnnStatus_t drop(const char *function, cudnnHandle_t handle, const struct cudnnDropoutStruct *d,
                          const Tensor *from, const Tensor *to, size_t size, Drop job)
{
    NEED_HANDLE(handle);
    NEED(d && d->kind == DROPOUT && d->states, "another kind, or not set");
    NEED_SET(from, TENSOR);
    NEED_SET(to, TENSOR);
    NEED(same(from, to) && orders(from) & 1, "%s and %s", written(from), written(to));
    NEED_DATA(from, job.from);
    NEED_DATA(to, job.to);
    NEED_ROOM(job.mask, size, count(from));
    job.t = *from, job.ratio = d->ratio, job.states = d->states;
    note("%s ratio=%g x=%s", function + strlen("cudnn"), d->ratio, written(from));
    return submit(handle, run_drop, &job, sizeof job);
}

API cudnnStatus_t cudnnDropoutForward(
    cudnnHandle_t handle, const cudnnDropoutDescriptor_t d, const cudnnTensorDescriptor_t xd, const void *x,
    const cudnnTensorDescriptor_t yd, void *y, void *reserve, size_t size)
{
    return drop(__func__, handle, d, xd, yd, size, (Drop){.from = x, .to = y, .mask = reserve});
}

API cudnnStatus_t cudnnDropoutBackward(
    cudnnHandle_t handle, const cudnnDropoutDescriptor_t d, const cudnnTensorDescriptor_t dyd, const void *dy,
    const cudnnTensorDescriptor_t dxd, void *dx, void *reserve, size_t size)
{
    return drop(__func__, handle, d, dyd, dxd, size, (Drop){.backward = 1, .from = dy, .to = dx, .mask = reserve});
}
