"""Each remedy of runtime/compat, by what fails without it."""
import numpy
import pytest

import chainer
import chainer.functions as F


def test_sctypes_as_strided_and_its_gradient():
    x = chainer.Variable(numpy.arange(6, dtype='f'))
    y = F.as_strided(x, (3,), (2,), 1)
    F.sum(y * y).backward()
    numpy.testing.assert_array_equal(y.array, [1, 3, 5])
    numpy.testing.assert_array_equal(x.grad, [0, 2, 0, 6, 0, 10])


def test_numpy_float_resize_images():
    x = numpy.array([[[[0, 2], [4, 6]]]], 'f')
    numpy.testing.assert_allclose(
        F.resize_images(x, (3, 3)).array[0, 0], [[0, 1, 2], [2, 3, 4], [4, 5, 6]])


def test_import_without_setuptools(python):
    code = ('import sys; sys.modules["pkg_resources"] = None; import chainer_abn, chainer; '
            'print(chainer.__version__)')
    result = python('-c', code)
    assert result.stdout == '7.8.1\n', result.stderr


def test_mean_of_float16_is_taken_in_float64():
    summary = chainer.reporter.Summary()
    for _ in range(5000):
        summary.add(numpy.float16(0.9))
    assert summary.compute_mean() == pytest.approx(0.9, abs=2e-4)      # float16 of 0.9 is 0.8999


def test_mean_of_float16_arrays_keeps_weights():
    summary = chainer.reporter.DictSummary()
    summary.add({'a': (numpy.array(1, 'e'), 3)})
    summary.add({'a': (numpy.array(5, 'e'), 1)})
    assert summary.compute_mean()['a'] == 2


def test_deconvolution_gradient_when_only_the_weight_needs_one():
    rng = numpy.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 4))
    w = chainer.Variable(rng.standard_normal((3, 2, 3, 3)))
    F.sum(F.deconvolution_2d(x, w) ** 2).backward()
    both = chainer.Variable(w.array), chainer.Variable(x)
    F.sum(F.deconvolution_2d(both[1], both[0]) ** 2).backward()
    numpy.testing.assert_allclose(w.grad, both[0].grad)


def test_batch_statistics_of_float32_are_summed_in_float64():
    x = numpy.random.default_rng(0).standard_normal((64, 3, 33, 35)) * 0.02 + 8
    x = x.astype('f')
    bn = chainer.links.BatchNormalization(3, decay=0)
    with chainer.using_config('use_ideep', 'never'):
        bn(x)
    exact = x.astype('d')
    for found, wanted in ((bn.avg_mean, exact.mean(axis=(0, 2, 3))),
                          (bn.avg_var, exact.var(axis=(0, 2, 3), ddof=1))):
        assert found.dtype == 'f'
        numpy.testing.assert_allclose(found, wanted, rtol=1e-7)         # 3e-7 in float32


class Communicator:
    """Hands out what the master rank would send."""

    def __init__(self, *messages):
        self.messages = list(messages)

    def bcast(self, _, root):
        return self.messages.pop(0)


@pytest.mark.filterwarnings('error')
def test_multi_node_iterator_takes_its_size_from_an_array():
    from chainermn.iterators import multi_node_iterator
    slave = multi_node_iterator._MultiNodeIteratorSlave(
        Communicator(numpy.array([5.]), numpy.arange(5.)), 0)
    assert slave.dataset_size == 5


def test_onnx_export_is_readable_and_takes_the_image_alone():
    import onnx
    import onnx_chainer
    link = chainer.links.Convolution2D(3, 4, 3)
    model = onnx_chainer.export(link, numpy.zeros((1, 3, 8, 8), 'f'), opset_version=11, no_testcase=True)
    assert model.ir_version == 6
    assert [i.name for i in model.graph.input] == ['Input_0']
    assert {tuple(p.dims) for p in model.graph.initializer} == {(4, 3, 3, 3), (4,)}
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize('order', ['chainer, chainer_abn', 'chainer_abn, chainer'])
def test_remedies_hold_in_either_order_of_import(python, order):
    # what a user does today to import chainer at all, then ours
    result = python('-c', f'''
import sys, types, numpy
if not hasattr(numpy, "sctypes"):
    numpy.sctypes = dict(int=[numpy.int8, numpy.int16, numpy.int32, numpy.int64],
                         float=[numpy.float16, numpy.float32, numpy.float64])
check = types.ModuleType("chainer._environment_check")
check.check = lambda: None
sys.modules["chainer._environment_check"] = check
import {order}
summary = chainer.reporter.Summary()
for _ in range(5000):
    summary.add(numpy.float16(0.9))
print(round(float(summary.compute_mean()), 3), numpy.float is float)
''')
    assert result.stdout == '0.9 True\n', result.stderr


def test_a_second_application_changes_nothing():
    from chainer_abn.runtime import compat
    add = chainer.reporter.Summary.add
    compat.apply()
    assert chainer.reporter.Summary.add is add
