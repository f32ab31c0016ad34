"""Where a network looks: one module per method, over the passes of :mod:`chainer_abn.explain.look`.

A method has

- ``check(net)``, which raises InputError where it does not apply;
- ``maps(seen)``: :class:`~chainer_abn.explain.look.Seen` -> maps (B, h, w) on the network's device, of a
  multi-task network (B, T, h, w).
"""
from chainer_abn.explain import attention, cam, grad_cam, grad_cam_pp

# the names of ``visualize.py --method``
METHODS = {'attention': attention, 'cam': cam, 'grad-cam': grad_cam, 'grad-cam++': grad_cam_pp}


def usual_method(net):
    """The name of the method for a network where none is asked for: its attention map if it has one."""
    return 'attention' if hasattr(net, 'attention_branch') else 'grad-cam'
