"""pytorch-grad-cam's side of ``grad_cam.py``, which starts it."""
import argparse
import importlib.metadata
import platform
import sys
import types

import cv2
import torch
import torch_networks
from grad_cam_worker import serve
from torch import nn
from worker import N_CLASS

# imported by pytorch-grad-cam for what is not done here; the real one fits a single build of PyTorch, and
# without a GPU there often is none
NAMED = {'torchvision': (), 'torchvision.transforms': ('Compose', 'Normalize', 'ToTensor'),
         'torchvision.transforms.functional': ('resize',)}
for module, names in NAMED.items():
    sys.modules[module] = types.ModuleType(module)
    vars(sys.modules[module]).update(dict.fromkeys(names))

from pytorch_grad_cam import GradCAM  # noqa: E402


class AtLayer(GradCAM):
    """Leaves the maps at the size at which they come out of the layer."""

    def get_target_width_height(self, input_tensor):
        *_, height, width = self.activations_and_grads.activations[0].shape
        return width, height


class Logits(nn.Module):
    """An ABN that gives the logits of its perception branch, as pytorch-grad-cam wants them."""

    def __init__(self, abn):
        super().__init__()
        self.abn = abn

    def forward(self, x):
        return self.abn(x)[1]


class Torch:
    """The library as its documentation uses it, on images and weights in one order in memory."""

    def __init__(self, channels_last):
        self.order = torch.channels_last if channels_last else torch.contiguous_format

    def build(self, arch, variant, x, path):
        self.x = torch.from_numpy(x).contiguous(memory_format=self.order)
        abn = torch_networks.build(arch, N_CLASS)
        abn_too = variant == 'abn'
        load(abn, path, abn_too)
        net = Logits(abn) if abn_too else nn.Sequential(abn.extractor, abn.perception)
        self.net = net.to(memory_format=self.order)
        self.pooled = abn.perception[-4]        # behind it: average, flatten, linear
        self.kind = None

    def maps(self, kind):
        if kind != self.kind:                   # it hooks into the network, so one at a time
            self.grad_cam = None
            self.grad_cam = {'image': GradCAM, 'layer': AtLayer}[kind](self.net, [self.pooled])
            self.kind = kind
        return self.grad_cam(self.x, targets=None)

    def about(self):
        versions = {name: importlib.metadata.version(name)
                    for name in ('torch', 'grad-cam', 'opencv-python-headless', 'numpy')}
        return {'python': platform.python_version(), **versions, 'threads': str(torch.get_num_threads())}


def load(net, path, abn):
    """The weights of an official checkpoint: its arrays are in this order, and all must be used and fit."""
    attention_stage, *head = net.evidence
    parts = nn.ModuleList([net.extractor, attention_stage, net.perception, *head, net.score, net.map] if abn
                          else [net.extractor, net.perception])
    arrays = torch.load(path, weights_only=True)['state_dict'].values()
    parts.load_state_dict(dict(zip(parts.state_dict(), arrays, strict=True)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--channels-last', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    serve(Torch(args.channels_last))


if __name__ == '__main__':
    main()
