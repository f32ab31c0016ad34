"""Images that lie on a GPU, and the kernel that makes batches of them.

A *cut* says what becomes of an image: int32 numbers, which are the image's row in an array of images, top and
left end of the part that is taken, whether it is mirrored, and the label, or those of several tasks.
"""
import numpy

import chainer
from chainer.backends import cuda

MEMORY = 2 << 30
_CHUNK = 1024               # images that are sent at a time
LABEL = 4                   # where the labels begin in a cut


class Cutter:
    """Makes x and t by one kernel: crop, mirroring, normalisation, channels apart.

    The numbers are those of :class:`~chainer_abn.datasets.transforms.Normalize` to the bit, since they are
    looked up in its table; float16 ones are rounded once.

    Args:
        normalize (Normalize)
        device (chainer.backends.cuda.GpuDevice)
    """

    def __init__(self, normalize, device):
        self.table = device.send(normalize.table())
        self.bgr = normalize.channel_order == 'BGR'

    def __call__(self, images, cuts, size):
        """Queued on the current stream; nothing is waited for.

        Args:
            images: (N, H, W, 3) uint8 RGB, C-contiguous.
            cuts: (B, 4 + T) int32. What lies outside of an image is black.
            size: (height, width) of the parts in pixels.

        Returns:
            x (B, 3, height, width), C-contiguous, and t (B, T) int32, new arrays on the device.
        """
        n, width = cuts.shape
        x, t = cuda.cupy.empty((n, 3, *size), self.table.dtype), cuda.cupy.empty((n, width - LABEL), 'i')
        _kernel()(images, cuts, width, self.table, *images.shape[1:3], *size, self.bgr, x, t,
                  size=n * size[0] * size[1])
        return x, t


def _kernel():
    # one thread per pixel: neighbours write neighbours, in each of the three channels
    return cuda.elementwise(
        'raw uint8 images, raw int32 cuts, int32 n, raw T table, int32 H, int32 W, int32 h, int32 w, '
        'bool bgr',
        'raw T x, raw int32 t',
        '''
        const int at = i, area = h * w, b = at / area, pixel = at % area, column = pixel % w;
        const int source_y = cuts[n * b + 1] + pixel / w;
        const int source_x = cuts[n * b + 2] + (cuts[n * b + 3] ? w - 1 - column : column);
        const bool inside = 0 <= source_y && source_y < H && 0 <= source_x && source_x < W;
        const ptrdiff_t source = 3 * (((ptrdiff_t)cuts[n * b] * H + source_y) * W + source_x);
        for (int c = 0; c < 3; ++c) {
            const int value = inside ? images[source + (bgr ? 2 - c : c)] : 0;
            x[((ptrdiff_t)b * 3 + c) * area + pixel] = table[256 * c + value];
        }
        for (int label = 4 + pixel; label < n; label += area) {
            t[(ptrdiff_t)b * (n - 4) + label - 4] = cuts[n * b + label];
        }
        ''', 'abn_cut')


class Cuts:
    """Examples of which a batch is the cuts alone; what they are cut from is on the GPU.

    Args:
        examples (Examples)
        images: (N, H, W, 3) uint8 array on the GPU, all images of the store.
    """

    def __init__(self, examples, images):
        self.examples, self.images, self.size = examples, images, examples.transform.size

    @property
    def store(self):
        return self.examples.store

    def __len__(self):
        return len(self.examples)

    def batch(self, numbers):
        """The cuts, (B, 4 + T) int32, that make the same batch as ``examples.batch(numbers)``."""
        indices, uniform = self.examples.drawn(numbers)
        corners, mirrored = self.examples.transform.cuts(numpy.array(self.images.shape[1:3]), uniform)
        labels = self.examples.store.dataset.labels[indices]
        return cuts_of(indices, corners, mirrored, labels)


def cuts_of(rows, corners, mirrored, labels):
    """The columns of cuts put together; any of them may be one value for all."""
    labels = labels.reshape(len(labels), -1)
    cuts = numpy.empty((len(labels), LABEL + labels.shape[1]), 'i')
    cuts[:, 0], cuts[:, 1:3], cuts[:, 3], cuts[:, LABEL:] = rows, corners, mirrored, labels
    return cuts


def on_gpu(parts, device):
    """Lay the images of a data set on the GPU, where that can be done.

    It can where all are in memory, of one size and neither turned nor scaled, and take no more than 2 GiB
    and a quarter of the GPU's free memory.

    Args:
        parts (sequence of Examples): of one store.
        device (chainer.backend.Device)

    Returns:
        list: of :class:`Cuts`; the same examples where it cannot be done, so on the CPU.
    """
    store = parts[0].store
    if device.xp is numpy or store.shape is None or not all(part.transform.only_cuts for part in parts):
        return list(parts)
    with chainer.using_device(device):
        pool = device.xp.get_default_memory_pool()
        free = device.device.mem_info[0] + pool.free_bytes()
        if numpy.prod(store.shape) > min(MEMORY, free // 4):
            return list(parts)
        images = device.xp.empty(store.shape, 'u1')
        for start in range(0, len(images), _CHUNK):
            chunk = images[start:start + _CHUNK]
            chunk.set(numpy.stack([store.image(start + i) for i in range(len(chunk))]))
    return [Cuts(part, images) for part in parts]
