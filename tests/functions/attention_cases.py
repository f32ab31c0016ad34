"""Arrays for the attention kernels, and what they must give: shared by the host's build and the GPU's."""
import numpy

SHAPES = [
    (1, 1, 1, 1), (3, 40, 1, 1), (5, 1, 4, 4), (2, 3, 3, 5), (1, 8, 7, 7), (2, 64, 14, 14), (3, 48, 16, 16),
    (1, 320, 2, 2),     # few images: the channels are split between blocks
    (1, 32, 23, 23),    # a row wider than a block, and float16's has every pixel eight times
    (2, 4, 40, 40), (300, 4, 2, 3), (2, 1030, 1, 3)]
LAYOUTS = 'nchw', 'nhwc', 'sliced'


def random_shapes(n, seed):
    rng = numpy.random.default_rng(seed)
    return [tuple(int(size) for size in rng.integers(1, (6, 50, 20, 20))) for _ in range(n)]


def in_memory(x, layout):
    """x, with its elements where ``layout`` says."""
    if layout == 'nhwc':
        return numpy.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == 'sliced':
        wide = numpy.full((*x.shape[:3], 2 * x.shape[3]), numpy.nan, x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return numpy.ascontiguousarray(x)


def arrays(shape, dtype, seed=0):
    """g, M, gy."""
    rng = numpy.random.default_rng(seed)
    b, _, h, w = shape
    return (rng.standard_normal(shape).astype(dtype), rng.uniform(0, 1, (b, 1, h, w)).astype(dtype),
            rng.standard_normal(shape).astype(dtype))


def check(g, attention, gy, residual, y, gg, g_attention):
    """The results are float64's, but for one rounding, and for gM those of a sum in float32."""
    unit = numpy.finfo(g.dtype).eps / 2
    tiny = numpy.finfo(g.dtype).smallest_subnormal
    exact_g, exact_attention, exact_gy = (a.astype('d') for a in (g, attention, gy))
    weight = exact_attention + residual
    product = exact_g * exact_gy
    rounding = min(unit, 2 ** -24) * (g.shape[1] + 1) * abs(product).sum(1, keepdims=True)
    expected = {
        'y': (y, exact_g * weight, 0), 'gg': (gg, exact_gy * weight, 0),
        'gM': (g_attention, product.sum(1, keepdims=True), rounding)}
    for name, (found, exact, more) in expected.items():
        assert found.dtype == g.dtype and found.shape == exact.shape, name
        # w = 1 + M is rounded to the type of the sums
        allowed = (unit + 2 * min(unit, 2 ** -24)) * abs(exact) + tiny + more
        assert (abs(found - exact) <= allowed).all(), f'{name}: {abs(found - exact).max()}'
