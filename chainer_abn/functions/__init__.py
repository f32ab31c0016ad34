from chainer_abn.functions.attention import MECHANISMS, attend
