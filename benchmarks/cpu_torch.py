"""PyTorch's side of ``cpu.py``, which starts it."""
import argparse
import platform

import numpy
import torch
import torch_networks
from cpu_worker import serve
from worker import N_CLASS


class Torch:
    """Eager or compiled, channels last, with the optimizer's default (foreach) implementation."""

    def __init__(self, compile_):
        self.compile = compile_

    def build(self, arch, x, t):
        torch.manual_seed(0)
        # strides are kept, so x is channels last
        self.x, self.t = torch.from_numpy(x), torch.from_numpy(t).long()
        self.net = torch_networks.build(arch, N_CLASS).to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.net) if self.compile else self.net
        self.cross_entropy = torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def train(self):
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        attention_logits, logits, _ = self.forward(self.x)
        loss = self.cross_entropy(attention_logits, self.t) + self.cross_entropy(logits, self.t)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self):
        self.net.eval()
        with torch.inference_mode():
            self.forward(self.x)

    def about(self):
        return {'parameters': sum(p.numel() for p in self.net.parameters()),
                'versions': {'python': platform.python_version(), 'torch': torch.__version__,
                             'numpy': numpy.__version__, 'threads': str(torch.get_num_threads())}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--compile', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    serve(Torch(args.compile))


if __name__ == '__main__':
    main()
