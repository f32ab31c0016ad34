"""Images as a trained network wants them."""
import numpy

from chainer_abn.datasets.transforms import FITS, normalize_of


def network_input(image, config):
    """The whole image at the scale of validation, uncropped, so that a map covers all of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        config (dict): the network's.

    Returns:
        (h, w, 3) uint8 RGB; see :func:`to_batch`.
    """
    return FITS[config.get('fit', 'cover')](image, config['resize'])


def to_batch(images, config):
    """Images of one size -> x (B, 3, h, w) float32, normalised."""
    return normalize_of(config).images(images)


def batches(items, size_of, batchsize):
    """Lists of up to ``batchsize`` consecutive items of one size."""
    batch = []
    for item in items:
        if batch and (len(batch) == batchsize or size_of(item) != size_of(batch[0])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def softmax(logits):
    """(..., K) -> probabilities."""
    e = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
