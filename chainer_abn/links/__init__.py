from chainer_abn.links.branches import Output
from chainer_abn.links.build import VARIANTS, build
