"""What remains to be done in Chainer once it is imported."""
import ast
import functools
import inspect
import sys

from chainer_abn.runtime.cudnn import constants
from chainer_abn.runtime.cudnn import functions as cudnn_functions

import chainer
from chainer.backends import cuda
from chainer.functions.array import spatial_transformer_grid, spatial_transformer_sampler
from chainer.functions.rnn import n_step_gru, n_step_lstm, n_step_rnn


def enable():
    """Switch Chainer's cuDNN on where it found none at its import; a second call changes nothing."""
    if not cuda.cudnn_enabled:
        cuda.cudnn, cuda.libcudnn = cudnn_functions, constants
        cuda.cudnn_enabled, cuda._cudnn_version = True, constants.getVersion()
        for name, module in list(sys.modules.items()):
            if name.startswith('chainer.') and getattr(module, 'cuda', None) is cuda:
                _run_skipped(module)
    for module, name in ((n_step_rnn, 'n_step_rnn_base'), (n_step_lstm, 'n_step_lstm_base'),
                         (n_step_gru, 'n_step_gru_base')):
        if not hasattr(getattr(module, name), 'without_cudnn'):
            setattr(module, name, _without_cudnn(getattr(module, name)))
    for cls in (spatial_transformer_grid.SpatialTransformerGrid,
                spatial_transformer_sampler.SpatialTransformerSampler):
        cls.forward_gpu, cls.backward_gpu = cls.forward_cpu, cls.backward_cpu      # they take both arrays


def _run_skipped(module):
    """Run what the module does at its import ``if cuda.cudnn_enabled``: names and tables of modes."""
    source = inspect.getsource(module)
    if 'cuda.cudnn_enabled' not in source:
        return
    skipped = [statement for statement in ast.parse(source).body
               if isinstance(statement, ast.If) and 'cuda.cudnn_enabled' in ast.unparse(statement.test)]
    exec(compile(ast.Module(skipped, []), module.__file__, 'exec'), vars(module))


def _without_cudnn(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with chainer.using_config('use_cudnn', 'never'):
            return function(*args, **kwargs)
    wrapped.without_cudnn = True
    return wrapped
