from chainer_abn.links.abn import ATTENTIONS
from chainer_abn.links.branches import Output
from chainer_abn.links.build import VARIANTS, build
from chainer_abn.links.summary import summary
