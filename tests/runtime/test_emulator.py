"""The GPU emulator itself: CuPy on it against NumPy, and CUDA's refusals."""
import threading

import emulator
import numpy
import pytest

import chainer
from chainer import functions as F
from chainer import links as L

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not emulator.is_running(), reason='needs the emulator: -p emulator.plugin'),
]
if emulator.is_running():
    import cupy
    from cupy.cuda import runtime

    CUDARuntimeError = runtime.CUDARuntimeError


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


@pytest.fixture
def stream():
    return cupy.cuda.Stream(non_blocking=True)


@pytest.fixture
def lazy():
    emulator.set_lazy(True)
    yield
    emulator.set_lazy(False)


@pytest.fixture
def raw_memory():
    """Every array in an allocation of its own, fresh from cudaMalloc."""
    cupy.cuda.set_allocator(None)
    yield
    cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)


def close(ours, expected, tolerance=1e-5):
    numpy.testing.assert_allclose(cupy.asnumpy(ours), expected, rtol=tolerance, atol=tolerance)


def captured(stream, work, mode=None):
    """The graph of the work, as CuPy's arrays submit it on the stream."""
    with stream:
        stream.begin_capture(mode)
        work()
        return stream.end_capture()


def upload(to, array, stream):
    runtime.memcpyAsync(
        to.data.ptr, array.ctypes.data, array.nbytes, runtime.memcpyHostToDevice, stream.ptr)


def download(array, to, stream):
    runtime.memcpyAsync(
        to.ctypes.data, array.data.ptr, array.nbytes, runtime.memcpyDeviceToHost, stream.ptr)


def pinned(array):
    memory = cupy.cuda.alloc_pinned_memory(array.nbytes)
    copy = numpy.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    return copy


class TestArrays:
    @pytest.mark.parametrize('dtype', ['e', 'f', 'd', 'i', 'B'])
    def test_elementwise_functions_and_reductions_are_numpys(self, rng, dtype):
        x = rng.integers(1, 9, (7, 5, 3)).astype(dtype)
        y = rng.integers(1, 9, (5, 1)).astype(dtype)
        a, b = cupy.asarray(x), cupy.asarray(y)
        tolerance = 1e-2 if dtype == 'e' else 1e-5
        close(a * b + a / b, x * y + x / y, tolerance)
        close(cupy.sqrt(a) - cupy.maximum(a, b), numpy.sqrt(x) - numpy.maximum(x, y), tolerance)
        close(a.sum(axis=1), x.sum(axis=1), tolerance)
        close(a.mean(axis=(0, 2)), x.mean(axis=(0, 2)), tolerance)
        assert a.max() == x.max() and (a.argmin(axis=0).get() == x.argmin(axis=0)).all()

    def test_a_reduction_over_many_blocks(self, rng):
        x = rng.standard_normal((3, 100_000))
        close(cupy.asarray(x).sum(axis=1), x.sum(axis=1), 1e-9)

    def test_indexing(self, rng):
        x = rng.standard_normal((6, 7)).astype('f')
        a, rows = cupy.asarray(x), numpy.array([4, 0, 4])
        close(a[::-2, 1:5].T, x[::-2, 1:5].T)
        close(a[rows], x[rows])
        close(a[a > 0], x[x > 0])
        a[rows, 2] = -1
        x[rows, 2] = -1
        close(a, x)
        cupy.add.at(a, rows, 1)
        numpy.add.at(x, rows, 1)
        close(a, x)

    def test_sorting(self, rng):
        x = rng.permutation(60).reshape(4, 15).astype('f')
        a = cupy.asarray(x)
        close(cupy.sort(a), numpy.sort(x))
        assert (cupy.argsort(a, axis=0).get() == numpy.argsort(x, axis=0)).all()

    @pytest.mark.parametrize('dtype', ['e', 'f', 'd'])
    @pytest.mark.parametrize('transposed', [(False, False), (True, False), (False, True), (True, True)])
    def test_products_of_matrices(self, rng, dtype, transposed):
        x, y = rng.standard_normal((4, 6)).astype(dtype), rng.standard_normal((6, 5)).astype(dtype)
        a, b = cupy.asarray(x), cupy.asarray(y)
        if transposed[0]:
            a = cupy.ascontiguousarray(a.T).T
        if transposed[1]:
            b = cupy.ascontiguousarray(b.T).T
        close(a @ b, x @ y, 2e-3 if dtype == 'e' else 1e-5)

    def test_other_products(self, rng):
        x, y = rng.standard_normal((3, 4, 6)).astype('f'), rng.standard_normal((3, 6, 5)).astype('f')
        a, b = cupy.asarray(x), cupy.asarray(y)
        close(cupy.matmul(a, b), numpy.matmul(x, y))
        close(cupy.tensordot(a, b, ((0, 2), (0, 1))), numpy.tensordot(x, y, ((0, 2), (0, 1))))
        close(a[0] @ b[0, :, 0], x[0] @ y[0, :, 0])
        close(cupy.dot(a[0, 0], b[0, :, 0]), x[0, 0] @ y[0, :, 0])
        close(cupy.linalg.norm(a), numpy.linalg.norm(x))

    def test_random_numbers(self):
        cupy.random.seed(3)
        uniform, normal = cupy.random.uniform(2, 4, 10_000), cupy.random.normal(5, 2, 10_000, 'f')
        assert 2 <= uniform.min() and uniform.max() <= 4
        assert abs(uniform.mean() - 3) < 0.05 and abs(normal.mean() - 5) < 0.1 and abs(normal.std() - 2) < 0.1
        cupy.random.seed(3)
        close(cupy.random.uniform(2, 4, 10_000), uniform.get(), 0)

    def test_memory_never_written_is_nan(self, raw_memory):
        assert cupy.isnan(cupy.empty(5, 'f')).all()


class TestKernels:
    SUM = r'''
    extern "C" __global__ void sum(const float *x, float *y, int n) {
        extern __shared__ float all[];
        __shared__ float of_warp[32];
        int t = threadIdx.x;
        float v = t < n ? x[t] : 0;
        all[t] = v;
        __syncthreads();
        for (int step = 16; step; step >>= 1) v += __shfl_down_sync(0xffffffff, v, step);
        if (t % 32 == 0) of_warp[t / 32] = v;
        __syncthreads();
        if (t == 0) {
            for (int i = 1; i < blockDim.x / 32; ++i) v += of_warp[i];
            y[blockIdx.x] = v + all[n - 1];
        }
    }'''

    def test_shared_memory_barriers_and_shuffles(self):
        x, y = cupy.arange(100, dtype='f'), cupy.zeros(2, 'f')
        cupy.RawKernel(self.SUM, 'sum')((2,), (128,), (x, y, 100), shared_mem=4 * 128)
        close(y, [4950 + 99] * 2)

    @pytest.mark.parametrize('call,expected', [
        ('__shfl_xor_sync(-1, t, 3)', [t ^ 3 for t in range(64)]),
        ('__shfl_sync(-1, t, 5)', [5] * 32 + [37] * 32),
        ('__shfl_sync(-1, t, 1, 8)', [t // 8 * 8 + 1 for t in range(64)]),
        ('__shfl_up_sync(-1, t, 1)', [max(t - 1, t // 32 * 32) for t in range(64)]),
        ('__ballot_sync(-1, t % 32 < 3)', [7] * 64),
        ('__any_sync(-1, t == 40)', [0] * 32 + [1] * 32),
        ('__syncthreads_count(t % 4 == 0)', [16] * 64),
        ('__reduce_add_sync(-1, 1)', [32] * 64),
    ])
    def test_warps(self, call, expected):
        source = f'extern "C" __global__ void f(int *y) {{ int t = threadIdx.x; y[t] = {call}; }}'
        y = cupy.zeros(64, 'i')
        cupy.RawKernel(source, 'f')((1,), (64,), (y,))
        assert y.tolist() == expected

    def test_templates_constants_and_atomics(self):
        module = cupy.RawModule(code=r'''
            __constant__ int shift[2];
            template <class T, int N> __global__ void count(const T *x, int *bins, int n) {
                int i = blockIdx.x * blockDim.x + threadIdx.x;
                if (i < n) atomicAdd(&bins[(static_cast<int>(x[i]) + shift[1]) % N], 1);
            }''', name_expressions=['count<float, 3>', 'count<int, 5>'])
        cupy.ndarray(2, 'i', module.get_global('shift'))[...] = cupy.array([0, 1])
        for dtype, n in (('f', 3), ('i', 5)):
            name = f"count<{'float' if dtype == 'f' else 'int'}, {n}>"
            bins = cupy.zeros(n, 'i')
            module.get_function(name)((4,), (8,), (cupy.arange(30, dtype=dtype), bins, 30))
            assert bins.tolist() == [30 // n] * n

    def test_half_precision(self, rng):
        x = rng.standard_normal(50).astype('e')
        kernel = cupy.ElementwiseKernel('T x', 'T y', 'y = x * x + T(1)', 'square')
        close(kernel(cupy.asarray(x)), x * x + 1, 1e-3)

    def test_what_cannot_be_compiled_is_said(self):
        with pytest.raises(cupy.cuda.compiler.CompileException, match='undeclared_thing'):
            cupy.RawKernel('extern "C" __global__ void f() { undeclared_thing(); }', 'f').compile()

    @pytest.mark.parametrize('body,word', [
        ('if (threadIdx.x < 5) __syncthreads();', 'of 32 threads 5 wait at __syncthreads'),
        ('if (threadIdx.x < 5) __shfl_sync(-1, 1, 0);', '5 for other threads of their warp'),
        ('*(float *)16 = 1;', 'illegal address 0x10'),
        ('volatile int zero = 0, all = 7 / zero;', 'by zero'),
        ('assert(threadIdx.x < 3);', 'assertion'),
    ])
    def test_what_would_hang_or_crash_is_an_error(self, body, word, capfd):
        kernel = cupy.RawKernel(f'extern "C" __global__ void bad() {{ {body} }}', 'bad')
        with pytest.raises(cupy.cuda.driver.CUDADriverError):
            kernel((1,), (32,), ())
        assert word in capfd.readouterr().err
        assert cupy.arange(5).sum() == 10  # and the next work is not disturbed

    def test_a_launch_beyond_the_limits_is_refused(self):
        kernel = cupy.RawKernel('extern "C" __global__ void f() {}', 'f')
        for block, shared in ((1025, 0), (1, 49 << 10)):
            with pytest.raises(cupy.cuda.driver.CUDADriverError, match='INVALID_VALUE|InvalidValue'):
                kernel((1,), (block,), (), shared_mem=shared)


class TestMemory:
    @pytest.fixture
    def small(self):
        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        available, total = runtime.memGetInfo()
        in_use = total - available              # by what other tests keep
        emulator.set_memory_limit((64 << 20) + in_use)
        yield pool
        pool.free_all_blocks()
        emulator.set_memory_limit(8 << 30)

    def test_running_out(self, small):
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            cupy.zeros(65 << 20, 'B')
        kept = cupy.zeros(40 << 20, 'B')
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            cupy.zeros(40 << 20, 'B')
        # what others kept may have been collected since
        assert 24 << 20 <= runtime.memGetInfo()[0] < 25 << 20
        del kept
        assert cupy.zeros(40 << 20, 'B').sum() == 0

    def test_copies_stay_within_the_allocations(self, raw_memory):
        a, x = cupy.zeros(4, 'f'), numpy.zeros(8, 'f')
        for to, source, size, kind in (
                (a.data.ptr, x.ctypes.data, 32, runtime.memcpyHostToDevice),
                (a.data.ptr + 8, x.ctypes.data, 16, runtime.memcpyHostToDevice),
                (x.ctypes.data, a.data.ptr, 32, runtime.memcpyDeviceToHost),
                (x.ctypes.data, a.data.ptr, 16, runtime.memcpyHostToDevice),
                (a.data.ptr, x.ctypes.data, 16, runtime.memcpyDeviceToDevice)):
            with pytest.raises(CUDARuntimeError, match='InvalidValue'):
                runtime.memcpy(to, source, size, kind)

    def test_freed_memory_is_gone(self, raw_memory, capfd):
        kernel = cupy.ElementwiseKernel('raw T x', 'T y', 'y = x[i]', 'read')
        a = cupy.zeros(4, 'f')
        freed = cupy.ndarray(4, 'f', cupy.cuda.MemoryPointer(
            cupy.cuda.UnownedMemory(a.data.ptr, 16, None, 0), 0))
        del a
        with pytest.raises(cupy.cuda.driver.CUDADriverError, match='llegal'):
            kernel(freed, size=4)
        assert 'illegal address' in capfd.readouterr().err

    def test_what_is_not_emulated_says_so(self, capfd):
        with pytest.raises(CUDARuntimeError, match='NotSupported'):
            runtime.ipcGetMemHandle(cupy.zeros(3).data.ptr)
        assert 'cudaIpcGetMemHandle is not emulated' in capfd.readouterr().err
        cupy.random.default_rng(0).random(3)  # CuPy does not look whether its own kernels start
        with pytest.raises(CUDARuntimeError, match='NotSupported'):
            cupy.cuda.Device().synchronize()

    def test_what_a_pointer_is(self):
        a, x = cupy.zeros(4), pinned(numpy.zeros(4))
        assert runtime.pointerGetAttributes(a.data.ptr).type == 2
        assert runtime.pointerGetAttributes(x.ctypes.data).type == 1
        assert runtime.pointerGetAttributes(numpy.zeros(4).ctypes.data).type == 0


class TestCapture:
    def test_a_graph_works_on_the_memory_not_the_values(self, stream, rng):
        x, w = (rng.standard_normal((4, 4)).astype('f') for _ in range(2))
        a, b = cupy.asarray(x), cupy.asarray(w)
        y = cupy.zeros((4, 4), 'f')

        def work():  # CuPy itself refuses cuBLAS here, so an own product
            cupy.sum(a[:, :, None] * b, axis=1, out=y)
            y[...] += 1
        graph = captured(stream, work)
        assert not y.any()  # recorded, not run
        for factor in (1, 2):
            a[...] = cupy.asarray(factor * x)
            graph.launch(stream)
            stream.synchronize()
            close(y, factor * x @ w + 1)

    def test_copies_from_pinned_memory_are_recorded(self, stream):
        x, a = pinned(numpy.ones(3, 'f')), cupy.zeros(3, 'f')
        graph = captured(stream, lambda: upload(a, x, stream))
        x[...] = 5
        graph.launch(stream)
        stream.synchronize()
        close(a, [5, 5, 5])

    def refused(self, stream, work, code, mode=None):
        """The work fails, and so does the capture."""
        with stream:
            stream.begin_capture(mode)
            with pytest.raises(CUDARuntimeError, match=code):
                work()
            with pytest.raises(CUDARuntimeError, match='StreamCaptureInvalidated'):
                stream.end_capture()
        assert not stream.is_capturing()

    def test_pageable_memory_and_waiting_are_refused(self, stream):
        a, x = cupy.zeros(3, 'f'), numpy.ones(3, 'f')
        event = cupy.cuda.Event()
        unsupported = 'StreamCaptureUnsupported'
        self.refused(stream, lambda: upload(a, x, stream), unsupported)
        self.refused(stream, lambda: download(a, x, stream), unsupported)
        self.refused(stream, stream.synchronize, unsupported)
        self.refused(stream, cupy.cuda.Device().synchronize, unsupported)

        def wait_for_event():
            event.record(stream)
            event.synchronize()
        self.refused(stream, wait_for_event, 'CapturedEvent')

    def test_only_the_relaxed_mode_lets_memory_be_allocated(self, stream, raw_memory):
        a = cupy.zeros(3, 'f')
        self.refused(stream, lambda: cupy.empty(3), 'StreamCaptureUnsupported',
                     runtime.streamCaptureModeGlobal)
        self.refused(stream, lambda: cupy.empty(3), 'StreamCaptureUnsupported',
                     runtime.streamCaptureModeThreadLocal)
        captured(stream, lambda: a.fill(1) or cupy.empty(3), runtime.streamCaptureModeRelaxed)

    def test_another_thread_is_only_held_by_the_global_mode(self, stream, raw_memory):
        errors = []

        def allocate():
            try:
                runtime.free(runtime.malloc(8))
            except CUDARuntimeError as error:
                errors.append(error)

        def elsewhere():
            thread = threading.Thread(target=allocate)
            thread.start()
            thread.join()
        captured(stream, elsewhere, runtime.streamCaptureModeThreadLocal)
        assert not errors
        with pytest.raises(CUDARuntimeError, match='StreamCaptureInvalidated'):
            captured(stream, elsewhere, runtime.streamCaptureModeGlobal)
        assert len(errors) == 1

    def test_the_default_stream_cannot_work_beside_a_blocking_one(self):
        stream, a = cupy.cuda.Stream(), cupy.zeros(3, 'f')

        def on_default():
            with cupy.cuda.Stream.null:
                a.data.memset_async(0, 12)
        self.refused(stream, on_default, 'StreamCaptureImplicit')

    def test_a_branch_must_be_joined(self, stream):
        a = cupy.zeros(3, 'f')
        other, fork, join = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event(), cupy.cuda.Event()

        def branch():
            a.fill(2)
            fork.record(stream)
            other.wait_event(fork)
            with other:
                cupy.multiply(a, 3, out=a)
                join.record(other)
        branch()
        with pytest.raises(CUDARuntimeError, match='StreamCaptureUnjoined'):
            captured(stream, branch)
        def and_more():
            branch()
            stream.wait_event(join)
            with other:
                a.fill(5)
        with pytest.raises(CUDARuntimeError, match='StreamCaptureUnjoined'):
            captured(stream, and_more)
        a.fill(0)
        graph = captured(stream, lambda: (branch(), stream.wait_event(join)))
        graph.launch(stream)
        stream.synchronize()
        close(a, [6, 6, 6])

    def test_work_outside_cannot_be_waited_for(self, stream):
        event = cupy.cuda.Event()
        event.record(cupy.cuda.Stream(non_blocking=True))
        self.refused(stream, lambda: stream.wait_event(event), 'StreamCaptureIsolation')


class TestLaziness:
    """Without the synchronisation that a GPU needs, the value is the old one."""

    def test_a_result_is_there_after_waiting(self, stream, lazy):
        a, x = cupy.zeros(3, 'f'), pinned(numpy.zeros(3, 'f'))
        with stream:
            a.fill(1)
            a.data.copy_to_host_async(x.ctypes.data, x.nbytes)
        assert not x.any()
        stream.synchronize()
        assert x.all()

    def test_pinned_memory_is_read_when_the_copy_is_done(self, stream, lazy):
        a, x = cupy.zeros(3, 'f'), pinned(numpy.ones(3, 'f'))
        with stream:
            a.data.copy_from_host_async(x.ctypes.data, x.nbytes)
        x[...] = 7
        stream.synchronize()
        close(a, [7, 7, 7])

    def test_streams_are_ordered_by_events_only(self, stream, lazy):
        other, event = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event()
        for waits in (False, True):
            a, b = cupy.zeros(3, 'f'), cupy.zeros(3, 'f')
            cupy.cuda.Device().synchronize()
            with stream:
                a.fill(1)
                event.record()
            with other:
                if waits:
                    other.wait_event(event)
                cupy.copyto(b, a)
            other.synchronize()
            close(b, [waits] * 3)

    def test_the_default_stream_waits_for_blocking_ones(self, stream, lazy):
        for other, expected in ((cupy.cuda.Stream(), 1), (stream, 0)):
            a = cupy.zeros(3, 'f')
            with other:
                a.fill(1)
            close(a, [expected] * 3)
            other.synchronize()

    def test_a_failed_kernel_is_told_by_its_own_stream(self, stream, lazy):
        other, event = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event()
        bad = cupy.RawKernel('extern "C" __global__ void bad() { *(float *)16 = 1; }', 'bad')
        with stream:
            bad((1,), (1,), ())
            event.record()
        other.wait_event(event)
        other.synchronize()
        with pytest.raises(CUDARuntimeError, match='IllegalAddress'):
            stream.synchronize()

    def test_an_event_says_when_it_has_come(self, stream, lazy):
        event = cupy.cuda.Event()
        with stream:
            cupy.zeros(3)
            event.record()
        assert not event.done
        assert event.done


class TestChainer:
    """Chainer's functions on CuPy's arrays, against the same on NumPy's."""

    def same(self, link, *arrays, loss=None, tolerance=1e-4):
        """Output and all gradients."""
        results = []
        for device in ('@numpy', '@cupy:0'):
            link.cleargrads()
            link.to_device(device)
            inputs = [chainer.Variable(chainer.get_device(device).send(a)) for a in arrays]
            y = link(*inputs)
            y.grad = chainer.get_device(device).send(
                numpy.linspace(-1, 1, y.size, dtype=y.dtype).reshape(y.shape))
            y.backward()
            gradients = [v.grad for v in (*inputs, *link.params()) if v.dtype.kind == 'f']
            results.append([chainer.backends.cuda.to_cpu(a) for a in (y.array, *gradients)])
        assert len(results[0]) > 1
        for ours, expected in zip(results[1], results[0], strict=True):
            close(ours, expected, tolerance)

    @pytest.mark.parametrize('make,shape', [
        (lambda: L.Linear(6, 5), (4, 6)),
        (lambda: chainer.Sequential(F.relu), (4, 6)),
        (lambda: chainer.Sequential(F.sigmoid, F.softmax), (4, 6)),
        (lambda: L.BatchNormalization(3), (4, 3, 5, 5)),
        (lambda: L.Convolution2D(3, 4, 3, stride=2, pad=1), (2, 3, 7, 7)),
        (lambda: L.Deconvolution2D(3, 2, 4, stride=2, pad=1), (2, 3, 5, 5)),
        (lambda: chainer.Sequential(lambda x: F.max_pooling_2d(x, 3, 2)), (2, 3, 7, 7)),
        (lambda: chainer.Sequential(lambda x: F.average_pooling_2d(x, 2)), (2, 3, 6, 6)),
    ], ids=['linear', 'relu', 'softmax', 'batch-norm', 'convolution', 'deconvolution', 'max', 'mean'])
    def test_layers(self, make, shape, rng):
        self.same(make(), rng.standard_normal(shape).astype('f'))

    def test_cross_entropy(self, rng):
        x, t = rng.standard_normal((5, 7)).astype('f'), numpy.array([0, 6, 3, 3, 1], 'i')
        self.same(chainer.Sequential(lambda x, t: F.softmax_cross_entropy(x, t)), x, t)

    def test_momentum_sgd(self, rng):
        x = rng.standard_normal((8, 6)).astype('f')
        start = rng.standard_normal((5, 6)).astype('f')
        weights = []
        for device in ('@numpy', '@cupy:0'):
            link = L.Linear(6, 5, initialW=start)
            link.to_device(device)
            optimizer = chainer.optimizers.MomentumSGD(lr=0.1).setup(link)
            optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-2))
            inputs = chainer.get_device(device).send(x)
            for _ in range(4):
                optimizer.update(lambda: F.sum(link(inputs) ** 2))  # noqa: B023
            weights.append(chainer.backends.cuda.to_cpu(link.W.array))
        close(weights[1], weights[0])


def test_a_forked_child_has_no_gpu_any_more(python):
    """As in CUDA, once the parent has used it."""
    code = ('import emulator; emulator.start(); import cupy, os, sys; cupy.zeros(3)\n'
            'if os.fork():\n    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n'
            'try:\n    cupy.cuda.runtime.getDeviceCount()\n'
            'except cupy.cuda.runtime.CUDARuntimeError as error:\n'
            '    os._exit("InitializationError" not in str(error))\nos._exit(2)')
    done = python('-c', code, PYTHONPATH='tests')
    assert done.returncode == 0, done.stderr


def test_two_devices(python):
    code = ('import emulator; emulator.start(); import cupy\n'
            'assert cupy.cuda.runtime.getDeviceCount() == 2\n'
            'a = cupy.arange(3)\n'
            'with cupy.cuda.Device(1):\n'
            '    b = cupy.asarray(a) + 1\n'
            '    assert b.device.id == 1 and b.tolist() == [1, 2, 3]\n'
            '    stream = cupy.cuda.Stream()\n'
            'try:\n'
            '    stream.use(); cupy.zeros(3)\n'
            'except Exception as error:\n    print(type(error).__name__, error)')
    done = python('-c', code, PYTHONPATH='tests', EMULATOR_DEVICES='2')
    assert done.returncode == 0, done.stderr
