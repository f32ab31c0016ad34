"""cuDNN 9 on the GPU behind Chainer, in the place of ``cupy.cudnn``, which left CuPy in version 14.

Convolution and deconvolution (2-D and N-D, groups, dilation), batch and group normalization, pooling,
activations, softmax and dropout of every Chainer network run on cuDNN's C API, through the hooks that
Chainer has for it. ``chainer.config.use_cudnn``, ``autotune``, ``cudnn_deterministic``,
``use_cudnn_tensor_core``, ``cudnn_fast_batch_normalization`` and the compute mode ``cudnn_fast`` mean what
they mean to Chainer; see :mod:`~chainer_abn.runtime.cudnn.convolution` for the precision of float32.

Chainer's own functions without cuDNN are used for what it would ask of functions that cuDNN 9 no longer
has, or that are not rebuilt here:

- recurrent networks: n_step_rnn, n_step_lstm, n_step_gru, one- and two-way (``RNNForwardTraining`` and its
  kin are gone);
- spatial transformers: spatial_transformer_grid, spatial_transformer_sampler.

Nothing here is imported with CuPy missing, and CuPy 13 with its own cuDNN 8 is left alone.
"""
import importlib.util
import os
import sys

_why_not = 'not asked for'


def install():
    """Put cuDNN where Chainer looks, before it is imported or after; a second call does what is left to do.

    Call it again after Chainer's import where the first call came before: only then can those functions
    be mended that must do without. Without CuPy it does nothing.
    """
    global _why_not
    if _why_not is not None:
        _why_not = _put_in_place()
    if _why_not is None and 'chainer' in sys.modules:
        from chainer_abn.runtime.cudnn import chainer_side
        chainer_side.enable()


def why_not():
    """Why cuDNN is not in use, in one line; None where it is."""
    return _why_not


def version():
    """Of the library in use, as '9.28.0', or None."""
    if _why_not is not None:
        return None
    number = _library().version
    return f'{number // 10000}.{number // 100 % 100}.{number % 100}'


def path():
    """Of the library in use, or None."""
    return None if _why_not is not None else _library().path


def _library():
    from chainer_abn.runtime.cudnn import api
    return api.library()


def _put_in_place():
    """-> why it could not be done, or None."""
    if importlib.util.find_spec('cupy') is None:
        return 'CuPy is not installed'
    if os.environ.get('CHAINER_CUDNN', '1') == '0':
        return 'switched off by CHAINER_CUDNN=0'
    try:
        import cupy
    except Exception as error:      # Chainer takes any as "no CuPy"
        return f'CuPy cannot be imported: {_one_line(error)}'
    try:
        import cupy.cuda.cudnn
        import cupy.cudnn
        return f'CuPy {cupy.__version__} brings its own'
    except Exception:
        pass
    from chainer_abn.runtime.cudnn import api
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    try:
        api.load(major)
    except (OSError, AttributeError) as error:
        named = os.environ.get(api.ENVIRONMENT)
        return f'{_one_line(error)} ({api.ENVIRONMENT if named else f"pip install nvidia-cudnn-cu{major}"})'
    from chainer_abn.runtime.cudnn import constants, functions
    sys.modules['cupy.cudnn'] = cupy.cudnn = functions
    sys.modules['cupy.cuda.cudnn'] = cupy.cuda.cudnn = constants
    return None


def _one_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
