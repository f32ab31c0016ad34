"""The attention mechanism on the GPU: ``attention.cu`` through CuPy.

Forward reads g and M and writes y; backward reads g, gy and M and writes the gradient of g and, in the
same pass, that of M. So each large array crosses the memory bus once. Arithmetic is float32 (float64 for
float64); sums are taken in a fixed order without atomics, so two runs give the same bits.

The design, for a GPU like the H200 (132 multiprocessors, 4.8 TB/s):

- Every access is a vector of 16 bytes. A *row* of NCHW memory is as many channels as fill whole vectors:
  one of 14 x 14 floats, two of 14 x 14 halves, four of 7 x 7 floats. A thread stays on one vector of the
  row, whose pixels are the same in every row: M is read once, and the loop divides nothing. Images that do
  not fill whole vectors, or start off 16 bytes, go by single elements.
- A thread issues UNROLL loads of each array before it uses the first. If memory answers in 800 ns, 4.8 TB/s
  want some 30 KiB on their way per multiprocessor; 1024 threads backward can have 128 KiB, 1536 forward
  96 KiB. The launch bounds hold the registers to that.
- Forward a thread has UNROLL vectors and is done: many short blocks, no long last wave (6656 blocks for
  float32 at (256, 1024, 14, 14), 256 at (128, 64, 16, 16), where all are resident at once).
- Backward a block sums over all channels of an image and writes gM: 256 blocks of 490 threads at
  (256, 1024, 14, 14), two per multiprocessor, all resident at once. With fewer images it takes a tile of
  the pixels, 128 bytes or wider: 256 blocks of 512 threads at (128, 64, 16, 16). Where that is not enough the
  channels are split too, and a second, small kernel adds the partial sums.
- In NHWC memory a pixel is a row, over whose channels up to 32 threads stride, more where pixels are few.

Nothing waits for the device or copies to the host. A dtype's kernels are compiled and loaded by their first
call, so a stream can be captured after one step.
"""
import math
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from numpy import int32, int64

import chainer
from chainer.backends import cuda

THREADS = 512  # in a block, at most
UNROLL = 4
BLOCKS = 256  # two for each multiprocessor of a large GPU, about
GRID = 65535  # the second and third dimension of a grid, at most
VECTOR = 16  # bytes
ELEMENTS = {'e': 'Half', 'f': 'float', 'd': 'double'}


def weigh(g, attention, residual):
    """g (1 + M) with ``residual``, else g M.

    Args:
        g: cupy.ndarray, (B, C, h, w), float16, float32 or float64, any strides.
        attention: M, (B, 1, h, w), of the same dtype.

    Returns:
        cupy.ndarray: of g's shape and dtype; in NHWC memory where ``g`` is, else in NCHW memory.
    """
    xp = chainer.backend.get_array_module(g)
    nhwc = is_nhwc(g)
    g, attention = dense(xp, g, nhwc), xp.ascontiguousarray(attention)
    y = xp.empty_like(g)
    if g.size:
        vector = vector_size(nhwc, g, y)
        launches, _ = plan(g, nhwc, vector, residual, 'forward')
        run(launches, g.dtype, vector, g, attention, y)
    return y


def weigh_grad(g, attention, gy, residual):
    """The gradients of ``weigh`` with respect to g and M.

    Args:
        gy: cupy.ndarray, like ``g``. Where its memory is ordered differently, it is copied first.

    Returns:
        tuple: of the shape and memory of ``weigh``'s result, and of the shape of ``attention``.
    """
    xp = chainer.backend.get_array_module(g)
    nhwc = is_nhwc(g)
    g, gy, attention = dense(xp, g, nhwc), dense(xp, gy, nhwc), xp.ascontiguousarray(attention)
    gg, g_attention = xp.empty_like(g), xp.empty_like(attention)
    if not g.size:
        g_attention.fill(0)
        return gg, g_attention
    vector = vector_size(nhwc, g, gy, gg)
    launches, partial = plan(g, nhwc, vector, residual, 'backward')
    if partial == 1:
        run(launches, g.dtype, vector, gy, attention, gg, g, g_attention)
    else:
        sums = xp.empty((len(g), partial, *g.shape[2:]), xp.promote_types(g.dtype, 'f'))
        run(launches, g.dtype, vector, gy, attention, gg, g, sums)
        run([fold(sums)], g.dtype, vector, sums, g_attention)
    return gg, g_attention


def run(launches, dtype, vector, *arrays):
    kernels = module(dtype.char, vector)
    for launch in launches:
        kernels.get_function(launch.kernel)(launch.grid, launch.block, (*arrays, *launch.sizes))


def is_nhwc(x):
    """Maps of a single pixel count as NHWC: it is their channels that are neighbours."""
    nchw = x.flags.c_contiguous and x.shape[2:] != (1, 1)
    return not nchw and x.transpose(0, 2, 3, 1).flags.c_contiguous


def dense(xp, x, nhwc):
    """x without gaps and in the order asked for; itself where it is so already."""
    if nhwc:
        return xp.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return xp.ascontiguousarray(x)


def vector_size(nhwc, *arrays):
    """Elements that a thread reads at once."""
    _, channels, h, w = arrays[0].shape
    size = VECTOR // arrays[0].itemsize
    whole = (channels if nhwc else channels * h * w) % size == 0
    return size if whole and all(address(x) % VECTOR == 0 for x in arrays) else 1


def address(x):
    return x.data.ptr


class Launch(NamedTuple):
    kernel: str
    grid: tuple
    block: tuple
    sizes: tuple  # the arguments after the arrays


def plan(g, nhwc, vector, residual, direction):
    """For arrays like g, none of whose dimensions is 0 -> launches, sums per pixel left to fold()."""
    if nhwc:
        return [pixels(g.shape, vector, residual, direction)], 1
    return planes(g.shape, vector, g.itemsize, residual, direction)


@cache
def planes(shape, vector, itemsize, residual, direction):
    """NCHW memory: a block is a tile of the row x a part of the rows x an image."""
    images, channels, *map_size = shape
    n_pixels = math.prod(map_size)
    per_row = vector // math.gcd(n_pixels, vector)
    rows, width = channels // per_row, per_row * n_pixels // vector
    tiles = ceil(width, THREADS)
    if direction == 'backward' and per_row == 1:
        tiles = max(tiles, min(ceil(BLOCKS, images), width * vector * itemsize // 128))
    tile = ceil(width, tiles)
    tiles = ceil(width, tile)
    lines = min(rows, THREADS // tile)
    parts = min(ceil(rows, lines * UNROLL), GRID)
    if direction == 'backward':
        parts = min(parts, ceil(BLOCKS, images * tiles))
    parts = max(parts, ceil(rows * width, 2 ** 30))  # 32-bit indices within a part
    length = ceil(rows, parts)
    parts = ceil(rows, length)
    launches = [
        Launch('planes_' + direction, (tiles, parts, min(GRID, images - first)), (tile, lines),
               tuple(map(int32, (first, n_pixels, width, rows, length, residual))))
        for first in range(0, images, GRID)]
    return launches, parts if tiles == 1 else parts * per_row


@cache
def pixels(shape, vector, residual, direction):
    """NHWC memory: a block is some of the pixels of all images."""
    images, channels, *map_size = shape
    n, width = images * math.prod(map_size), channels // vector
    lanes = ceil(width, ceil(width, 32))
    lines = min(max(1, n // (UNROLL * BLOCKS)), THREADS // lanes)
    lanes = ceil(width, ceil(width, max(lanes, min(128, THREADS // lines))))
    return Launch('pixels_' + direction, (ceil(n, lines * UNROLL),), (lanes, lines),
                  (int64(n), int32(width), int32(residual)))


def fold(sums):
    images, partial, *map_size = sums.shape
    n_pixels = math.prod(map_size)
    size = images * n_pixels
    return Launch('fold', (ceil(size, 256),), (256,), (int64(size), int32(partial), int32(n_pixels)))


def ceil(a, b):
    return -(-a // b)


def source():
    return files(__package__).joinpath('attention.cu').read_text()


def options(char, vector):
    names = {'ELEMENT': ELEMENTS[char], 'WIDTH': vector, 'THREADS': THREADS, 'UNROLL': UNROLL}
    return '-std=c++17', *(f'-D{name}={value}' for name, value in names.items())


@cache
def module(char, vector):
    """CuPy compiles it once per kind of device and loads it once per device."""
    return cuda.cupy.RawModule(code=source(), options=options(char, vector))
