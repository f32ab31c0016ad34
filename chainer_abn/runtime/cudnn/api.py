"""The part of cuDNN 9's legacy C API that is used, and where its library is.

Signatures are those of cudnn_graph.h, cudnn_ops.h and cudnn_cnn.h; the sizes of dims and strides are in
elements.
"""
import ctypes
import importlib.metadata
import os
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int, c_size_t, c_ulonglong, c_void_p

from chainer_abn.runtime.cudnn.constants import CUDNN_DATA_DOUBLE, CUDNN_DATA_FLOAT, CUDNN_DATA_HALF

NAME = 'libcudnn.so.9'
ENVIRONMENT = 'CHAINER_ABN_CUDNN'


class Error(RuntimeError):
    """A call that cuDNN refused.

    Attributes:
        status: of the call, a cudnnStatus_t.
    """

    def __init__(self, function, status, name, details):
        super().__init__(f'{function}: {name}{details and f" ({details})"}')
        self.status = status


class Algorithm(Structure):
    """cudnnConvolutionFwdAlgoPerf_t; those of the two backward directions are laid out the same."""
    _fields_ = [('algo', c_int), ('status', c_int), ('time', c_float), ('memory', c_size_t),
                ('determinism', c_int), ('mathType', c_int), ('reserved', c_int * 3)]


# what a descriptor, a handle and device memory are to C: addresses
_P = _HANDLE = _DESC = c_void_p
_OUT, _INTS, _SIZE, _FOUND = POINTER(c_void_p), POINTER(c_int), POINTER(c_size_t), POINTER(Algorithm)
_TENSOR = _DESC, _P                         # a descriptor and its data
_WORKSPACE = _P, c_size_t
_SEARCH = c_int, POINTER(c_int), _FOUND     # requested, returned, results
_BN = _HANDLE, c_int                        # handle, mode

SIGNATURES = {
    'Create': (_OUT,),
    'SetStream': (_HANDLE, _P),
    'QueryRuntimeError': (_HANDLE, POINTER(c_int), c_int, _P),

    'CreateTensorDescriptor': (_OUT,),
    'DestroyTensorDescriptor': (_DESC,),
    'SetTensorNdDescriptor': (_DESC, c_int, c_int, _INTS, _INTS),
    'CreateFilterDescriptor': (_OUT,),
    'DestroyFilterDescriptor': (_DESC,),
    'SetFilterNdDescriptor': (_DESC, c_int, c_int, c_int, _INTS),
    'CreateConvolutionDescriptor': (_OUT,),
    'DestroyConvolutionDescriptor': (_DESC,),
    'SetConvolutionNdDescriptor': (_DESC, c_int, _INTS, _INTS, _INTS, c_int, c_int),
    'SetConvolutionGroupCount': (_DESC, c_int),
    'SetConvolutionMathType': (_DESC, c_int),
    'CreatePoolingDescriptor': (_OUT,),
    'DestroyPoolingDescriptor': (_DESC,),
    'SetPoolingNdDescriptor': (_DESC, c_int, c_int, c_int, _INTS, _INTS, _INTS),
    'CreateActivationDescriptor': (_OUT,),
    'DestroyActivationDescriptor': (_DESC,),
    'SetActivationDescriptor': (_DESC, c_int, c_int, c_double),
    'CreateDropoutDescriptor': (_OUT,),
    'DestroyDropoutDescriptor': (_DESC,),
    'SetDropoutDescriptor': (_DESC, _HANDLE, c_float, _P, c_size_t, c_ulonglong),

    'ConvolutionForward': (_HANDLE, _P, *_TENSOR, *_TENSOR, _DESC, c_int, *_WORKSPACE, _P, *_TENSOR),
    'ConvolutionBackwardData': (_HANDLE, _P, *_TENSOR, *_TENSOR, _DESC, c_int, *_WORKSPACE, _P, *_TENSOR),
    'ConvolutionBackwardFilter': (_HANDLE, _P, *_TENSOR, *_TENSOR, _DESC, c_int, *_WORKSPACE, _P, *_TENSOR),
    'FindConvolutionForwardAlgorithmEx': (
        _HANDLE, *_TENSOR, *_TENSOR, _DESC, *_TENSOR, *_SEARCH, *_WORKSPACE),
    'FindConvolutionBackwardDataAlgorithmEx': (
        _HANDLE, *_TENSOR, *_TENSOR, _DESC, *_TENSOR, *_SEARCH, *_WORKSPACE),
    'FindConvolutionBackwardFilterAlgorithmEx': (
        _HANDLE, *_TENSOR, *_TENSOR, _DESC, *_TENSOR, *_SEARCH, *_WORKSPACE),
    'GetConvolutionForwardAlgorithm_v7': (_HANDLE, _DESC, _DESC, _DESC, _DESC, *_SEARCH),
    'GetConvolutionBackwardDataAlgorithm_v7': (_HANDLE, _DESC, _DESC, _DESC, _DESC, *_SEARCH),
    'GetConvolutionBackwardFilterAlgorithm_v7': (_HANDLE, _DESC, _DESC, _DESC, _DESC, *_SEARCH),
    'AddTensor': (_HANDLE, _P, *_TENSOR, _P, *_TENSOR),

    'DeriveBNTensorDescriptor': (_DESC, _DESC, c_int),
    'GetBatchNormalizationForwardTrainingExWorkspaceSize': (*_BN, c_int, *[_DESC] * 5, _SIZE),
    'GetBatchNormalizationBackwardExWorkspaceSize': (*_BN, c_int, *[_DESC] * 7, _SIZE),
    'GetBatchNormalizationTrainingExReserveSpaceSize': (*_BN, c_int, _DESC, _DESC, _SIZE),
    'BatchNormalizationForwardTrainingEx': (
        *_BN, c_int, _P, _P, *_TENSOR, *_TENSOR, *_TENSOR, _DESC, _P, _P,
        c_double, _P, _P, c_double, _P, _P, _DESC, *_WORKSPACE, *_WORKSPACE),
    'BatchNormalizationForwardTraining': (
        *_BN, _P, _P, *_TENSOR, *_TENSOR, _DESC, _P, _P, c_double, _P, _P, c_double, _P, _P),
    'BatchNormalizationForwardInference': (
        *_BN, _P, _P, *_TENSOR, *_TENSOR, _DESC, _P, _P, _P, _P, c_double),
    'BatchNormalizationBackward': (
        *_BN, _P, _P, _P, _P, *_TENSOR, *_TENSOR, *_TENSOR, _DESC, _P, _P, _P, c_double, _P, _P),
    'BatchNormalizationBackwardEx': (
        *_BN, c_int, _P, _P, _P, _P, *_TENSOR, *_TENSOR, *_TENSOR, *_TENSOR, *_TENSOR,
        _DESC, _P, _P, _P, _P, c_double, _P, _P, _DESC, *_WORKSPACE, *_WORKSPACE),

    'PoolingForward': (_HANDLE, _DESC, _P, *_TENSOR, _P, *_TENSOR),
    'PoolingBackward': (_HANDLE, _DESC, _P, *_TENSOR, *_TENSOR, *_TENSOR, _P, *_TENSOR),
    'ActivationForward': (_HANDLE, _DESC, _P, *_TENSOR, _P, *_TENSOR),
    'ActivationBackward': (_HANDLE, _DESC, _P, *_TENSOR, *_TENSOR, *_TENSOR, _P, *_TENSOR),
    'SoftmaxForward': (_HANDLE, c_int, c_int, _P, *_TENSOR, _P, *_TENSOR),
    'SoftmaxBackward': (_HANDLE, c_int, c_int, _P, *_TENSOR, *_TENSOR, _P, *_TENSOR),
    'DropoutGetStatesSize': (_HANDLE, _SIZE),
    'DropoutGetReserveSpaceSize': (_DESC, _SIZE),
    'DropoutForward': (_HANDLE, _DESC, *_TENSOR, *_TENSOR, *_WORKSPACE),
    'DropoutBackward': (_HANDLE, _DESC, *_TENSOR, *_TENSOR, *_WORKSPACE),
}


def find(cuda_major):
    """Paths where the library may be, for CuPy's major version of CUDA.

    That of the environment variable CHAINER_ABN_CUDNN is the only one where it is set; else PyPI's
    nvidia-cudnn-cu12 or -cu13 comes before the loader's own search. The wheel's libraries find each
    other, cuBLAS and NVRTC by their run paths.
    """
    if os.environ.get(ENVIRONMENT):
        return [os.environ[ENVIRONMENT]]
    try:
        wheel = importlib.metadata.distribution(f'nvidia-cudnn-cu{cuda_major}')
    except importlib.metadata.PackageNotFoundError:
        return [NAME]
    path = wheel.locate_file(f'nvidia/cudnn/lib/{NAME}')
    return [str(path), NAME] if path.is_file() else [NAME]


class Library:
    """cuDNN: its functions as methods, without the prefix; a failure is an :class:`Error`.

    Raises:
        OSError: there is no library, what it needs is missing, or it is not cuDNN 9.
        AttributeError: it lacks a function.
    """

    def __init__(self, paths):
        *first, last = paths
        for path in first:
            try:
                self.path, self._lib = path, ctypes.CDLL(path)
                break
            except OSError:
                continue        # of another system, say; the last one's error is told
        else:
            self.path, self._lib = last, ctypes.CDLL(last)
        self._lib.cudnnGetVersion.restype = c_size_t
        self.version = self._lib.cudnnGetVersion()
        if not 90000 <= self.version < 100000:
            raise OSError(f'{self.path}: cuDNN version {self.version}, 9 is needed')
        self._lib.cudnnGetErrorString.argtypes = c_int,
        self._lib.cudnnGetErrorString.restype = ctypes.c_char_p
        self._lib.cudnnGetLastErrorString.argtypes = ctypes.c_char_p, c_size_t
        self._lib.cudnnGetLastErrorString.restype = None
        for name, arguments in SIGNATURES.items():
            function = getattr(self._lib, f'cudnn{name}')
            function.argtypes, function.restype, function.errcheck = arguments, c_int, self._check
            setattr(self, name, function)

    def _check(self, status, function, arguments):
        if status:
            message = ctypes.create_string_buffer(1024)
            self._lib.cudnnGetLastErrorString(message, len(message))
            raise Error(function.__name__, status, self._lib.cudnnGetErrorString(status).decode(),
                        message.value.decode(errors='replace').strip())

    def make(self, thing):
        """A new handle or descriptor, as a number."""
        made = c_void_p()
        getattr(self, f'Create{thing}')(byref(made))
        return made.value

    def size(self, name, *arguments):
        """What one of the functions that tell a size in bytes tells."""
        size = c_size_t()
        getattr(self, name)(*arguments, byref(size))
        return size.value


_library = None


def library():
    """The library; :func:`load` must have been called before."""
    return _library


def load(cuda_major):
    """Load the library, once for the process.

    Raises:
        OSError, AttributeError: see :class:`Library`.
    """
    global _library
    if _library is None:
        _library = Library(find(cuda_major))
    return _library


# scaling factors: double for float64, else float (cuDNN's developer guide, "Scaling Parameters")
_FACTORS = {value: {'d': byref(c_double(value)), 'f': byref(c_float(value)), 'e': byref(c_float(value))}
            for value in (0, 1)}
ZERO, ONE = _FACTORS[0], _FACTORS[1]

# by the character of a NumPy dtype
DATA_TYPES = {'e': CUDNN_DATA_HALF, 'f': CUDNN_DATA_FLOAT, 'd': CUDNN_DATA_DOUBLE}
