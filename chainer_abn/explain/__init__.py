"""Where a network looks: one module per method.

A method has ``check(net)``, which raises InputError where it does not apply, and ``maps(net, x)``:
x (B, C, H, W) float32, normalised, on the network's device -> maps (B, h, w) float32 and the
prediction's logits (B, K) float32, both NumPy arrays; of a multi-task network (B, T, h, w) and (B, T, 2).
"""
from chainer_abn.explain import attention

# the names of ``visualize.py --method``
METHODS = {'attention': attention}
