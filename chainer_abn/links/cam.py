from chainer_abn.links.baseline import Baseline


class CAM(Baseline):
    """The network of Class Activation Mapping (Zhou et al., CVPR 2016).

    The last stage keeps the resolution (stride 1), so that the maps of its GAP classifier are as
    fine as ABN's; a backbone's own fully connected layers (VGG) give way to GAP.
    """

    last_stride = 1
    gap = True
