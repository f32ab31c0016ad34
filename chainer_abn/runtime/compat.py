"""What Chainer 7.8.1 needs of today's NumPy, setuptools and onnx, given back; nothing more.

Each remedy names the line of Chainer that needs it. ``apply()`` puts the first three in force
before chainer is imported, imports it, and mends the rest in place, so the order in which a
program imports chainer and chainer_abn does not matter (where chainer imports at all).
chainermn and onnx_chainer are optional: their remedies wait until they are imported.
"""
import builtins
import importlib.abc
import importlib.machinery
import sys
import types
import warnings

import numpy


def _numpy_names():
    """functions/array/as_strided.py:10,252 (sctypes) and resize_images.py:179-196 (float)."""
    if not hasattr(numpy, 'sctypes'):
        numpy.sctypes = {
            'int': [numpy.int8, numpy.int16, numpy.int32, numpy.int64],
            'float': [numpy.float16, numpy.float32, numpy.float64, numpy.longdouble],
        }
    if 'float' not in vars(numpy):
        numpy.float = float


def _environment_check():
    """_environment_check.py:5-6 imports numpy.distutils and pkg_resources, for warnings only."""
    if 'chainer' in sys.modules:
        return
    name = 'chainer._environment_check'
    stand_in = types.ModuleType(name)
    stand_in.check = lambda: None
    sys.modules.setdefault(name, stand_in)


def _float64_summary():
    """reporter.py:298-299: on NumPy 2, ``0.0 + float16`` stays float16, and the mean is wrong."""
    from chainer.reporter import Summary
    if getattr(Summary.add, 'in_float64', False):
        return
    add = Summary.add

    def add_in_float64(self, value, weight=1):
        if isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind == 'f':
            value = numpy.float64(value)
        add(self, value, weight)

    add_in_float64.in_float64 = True
    Summary.add = add_in_float64


def _deconvolution_gradient():
    """functions/connection/deconvolution_2d.py:340 hands arrays to a method that takes shapes."""
    from chainer.functions.connection.deconvolution_2d import Deconvolution2DFunction
    set_cover_all = Deconvolution2DFunction._set_cover_all
    if getattr(set_cover_all, 'takes_arrays', False):
        return

    def set_cover_all_of(self, x, w):
        set_cover_all(self, getattr(x, 'shape', x), getattr(w, 'shape', w))

    set_cover_all_of.takes_arrays = True
    Deconvolution2DFunction._set_cover_all = set_cover_all_of


def _batch_statistics():
    """functions/normalization/batch_normalization.py:86-89 sums all of float32 in float32.

    Deep networks multiply what that loses. Here each map is summed in float32, pairwise as NumPy does
    along one axis, and the maps of a batch in float64: closer, and quicker than Chainer's
    (``benchmarks/batch_statistics.py``).
    """
    from chainer.functions.normalization.batch_normalization import GeneralBatchNormalizationImpl
    get_mean_and_var = GeneralBatchNormalizationImpl.get_mean_and_var
    if getattr(get_mean_and_var, 'in_float64', False):
        return

    def in_float64(self, axis, gamma, x, xp, interm_dtype):
        per_channel = tuple(axis) == (0, *range(2, x.ndim))
        if xp is not numpy or x.dtype != numpy.float32 or interm_dtype != numpy.float32 or not per_channel:
            return get_mean_and_var(self, axis, gamma, x, xp, interm_dtype)
        maps = x.reshape(*x.shape[:2], -1)
        n = maps.shape[0] * maps.shape[2]
        mean = (maps.sum(axis=2).sum(axis=0, dtype='d') / n).astype('f')
        deviation = maps - mean[:, None]
        deviation *= deviation
        var = deviation.sum(axis=2).sum(axis=0, dtype='d') / n
        return mean, var.astype('f')

    in_float64.in_float64 = True
    in_float64.original = get_mean_and_var
    GeneralBatchNormalizationImpl.get_mean_and_var = in_float64


def _multi_node_iterator(module):
    """chainermn/iterators/multi_node_iterator.py:137: int() of a one-element array (NumPy 2.4)."""
    module.int = lambda value: builtins.int(getattr(value, 'item', lambda: value)())


def _onnx_mapping(onnx):
    """onnx_chainer/context.py:13, export.py:12, functions/*.py read tables that onnx removed."""
    if 'onnx.mapping' in sys.modules or importlib.machinery.PathFinder.find_spec(
            'onnx.mapping', onnx.__path__):
        return
    from onnx import TensorProto, helper
    mapping = types.ModuleType('onnx.mapping')
    types_of_onnx = [t for t in helper.get_all_tensor_dtypes() if t != TensorProto.UNDEFINED]
    mapping.NP_TYPE_TO_TENSOR_TYPE = {}
    for t in types_of_onnx:
        # the first one wins: later types (bfloat16, float8) borrow a NumPy type
        mapping.NP_TYPE_TO_TENSOR_TYPE.setdefault(helper.tensor_dtype_to_np_dtype(t), t)
    mapping.STORAGE_TENSOR_TYPE_TO_FIELD = {
        helper.tensor_dtype_to_storage_tensor_dtype(t): helper.tensor_dtype_to_field(t)
        for t in types_of_onnx}
    sys.modules['onnx.mapping'] = onnx.mapping = mapping


def _onnx_export(module):
    """onnx_chainer/export.py:466 stamps a too new IR version; parameters stand as inputs too."""
    check = module.check_onnx_model

    def make_ir_6_and_check(model, *args, **kwargs):
        model.ir_version = 6
        parameters = {p.name for p in model.graph.initializer}
        inputs = [i for i in model.graph.input if i.name not in parameters]
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        check(model, *args, **kwargs)

    module.check_onnx_model = make_ir_6_and_check


class _AfterImport(importlib.abc.MetaPathFinder):
    """Runs a remedy on a module right after it is imported (at once where it already is)."""

    def __init__(self, remedies):
        self.remedies = remedies

    def install(self):
        for name in [n for n in self.remedies if n in sys.modules]:
            self.remedies.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path, target=None):
        if name not in self.remedies:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None:
            exec_module = spec.loader.exec_module

            def exec_and_mend(module):
                exec_module(module)
                self.remedies.pop(name)(module)

            spec.loader.exec_module = exec_and_mend
        return spec


def _no_nccl():
    """cupy/_environment.py:592 warns of NCCL's absence at every import of Chainer; few programs need it."""
    warnings.filterwarnings('ignore', r'\s*nccl library could not be loaded')


def apply():
    """Put every remedy in force; a second call changes nothing."""
    _no_nccl()
    _numpy_names()
    _environment_check()
    _float64_summary()
    _deconvolution_gradient()
    _batch_statistics()
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        _AfterImport({
            'chainermn.iterators.multi_node_iterator': _multi_node_iterator,
            'onnx': _onnx_mapping,
            'onnx_chainer.export': _onnx_export,
        }).install()
