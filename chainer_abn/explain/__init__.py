"""Where a network looks: one file per method, each a function ``net, x -> maps, logits``.

A method takes images x (B, C, H, W), normalised, and gives its maps (B, h, w) float32 in [0, 1] and
the prediction's logits (B, K). ``METHODS`` maps the names of ``visualize.py --method`` to them.
"""
from chainer_abn.explain.attention import attention

METHODS = {'attention': attention}
