"""Dropout; the generator's state is in the GPU's memory."""
import cupy

from chainer_abn.runtime.cudnn import api, descriptors
from chainer_abn.runtime.cudnn.descriptors import contiguous, matrix


class DropoutStates:
    """A generator of masks, for one device and thread.

    Args:
        handle: not used.
        seed (int): of the generator.
    """

    def __init__(self, handle, seed):
        lib, handle = api.library(), descriptors.handle()
        size = lib.size('DropoutGetStatesSize', handle)
        self._states = cupy.cuda.alloc(size)
        self._descriptor, self._ratio = descriptors.Descriptor('Dropout'), 0.0
        lib.SetDropoutDescriptor(self._descriptor, handle, 0.0, self._states.ptr, size, int(seed))

    def set_dropout_ratio(self, ratio):
        if ratio != self._ratio:
            # without states, the ratio alone is set (cuDNN API reference, cudnnSetDropoutDescriptor)
            api.library().SetDropoutDescriptor(self._descriptor, descriptors.handle(), ratio, None, 0, 0)
            self._ratio = ratio

    def forward(self, handle, x, ratio):
        """Drop elements with probability ``ratio`` and scale the rest by 1 / (1 - ratio) -> (mask, y)."""
        x = contiguous(x, x.dtype)
        y = cupy.empty_like(x)
        mask = cupy.cuda.alloc(0)
        if x.size:
            size, of_x = _mask_size(x), matrix(x)
            mask = cupy.cuda.alloc(size)
            self.set_dropout_ratio(ratio)
            api.library().DropoutForward(descriptors.handle(), self._descriptor, of_x, x.data.ptr,
                                         of_x, y.data.ptr, mask.ptr, size)
        return mask, y

    def backward(self, handle, gy, ratio, mask):
        """Gradient of :meth:`forward`, and forward again with the same mask -> gx."""
        gy = contiguous(gy, gy.dtype)
        gx = cupy.empty_like(gy)
        if gy.size:
            of_y = matrix(gy)
            self.set_dropout_ratio(ratio)
            api.library().DropoutBackward(descriptors.handle(), self._descriptor, of_y, gy.data.ptr,
                                          of_y, gx.data.ptr, mask.ptr, _mask_size(gy))
        return gx


def _mask_size(array):
    return api.library().size('DropoutGetReserveSpaceSize', matrix(array))
