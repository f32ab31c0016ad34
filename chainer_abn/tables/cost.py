"""What the training of a cell computes, so that hours can be worked out."""
import functools

from chainer_abn.links import build, summary

# training images and classes (CompCars: per task; CelebA: attributes) of the paper's data sets
IMAGES = {'cifar10': 50_000, 'cifar100': 50_000, 'svhn': 604_388, 'imagenet': 1_281_167, 'compcars': 16_016,
          'celeba': 182_637}
CLASSES = {'cifar10': 10, 'cifar100': 100, 'svhn': 10, 'imagenet': 1000, 'model': 431, 'maker': 75,
           'celeba': 40, 'shapes': 6}


@functools.cache
def multiply_adds(arch, n_class, variant, log_sum, multitask):
    """Of one image, forward, by convolutions and linear layers."""
    net = build(arch, n_class, variant, 'log-sum' if log_sum else 'residual', multitask=multitask)
    return summary(net).multiply_adds


def petaflop(training):
    """Floating-point operations of a whole training, in 10^15.

    Three passes (forward, and backward to the input and to the weights) of two operations per multiply-add,
    for each image of each epoch; validation is left out.
    """
    images = IMAGES.get(training.dataset) or int(training.settings['--n-images'])
    n_class = CLASSES[training.task or training.dataset]
    # the other mechanisms cost the same
    one = multiply_adds(training.arch, n_class, training.variant, training.attention == 'log-sum',
                        training.dataset == 'celeba')
    return 6 * one * images * training.epochs() / 1e15
