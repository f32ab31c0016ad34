"""PyTorch's side of ``gpu_steps.py``, which starts it."""
import argparse
import inspect
import platform

import torch
import torch_networks
from gpu_worker import serve
from worker import N_CLASS

WARM_UP = 3             # steps before one is captured


class Torch:
    """Eager, as fast as its settings make it: TF32, algorithms chosen by timing, one kernel for the update.

    Args:
        channels_last (bool): the order of images and weights in memory.
        graph (bool): record forward and backward as a CUDA graph and replay it.
    """

    def __init__(self, channels_last, graph):
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.wants_graph = graph

    def build(self, arch, x, t, mixed):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self.x = torch.from_numpy(x).cuda().contiguous(memory_format=self.order)
        self.t = torch.from_numpy(t).long().cuda()
        self.mixed = mixed
        self.net = torch_networks.build(arch, N_CLASS).cuda().to(memory_format=self.order)
        self.cross_entropy = torch.nn.CrossEntropyLoss()
        fast = 'fused' if 'fused' in inspect.signature(torch.optim.SGD).parameters else 'foreach'
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, **{fast: True})
        self.scaler = torch.amp.GradScaler('cuda', enabled=mixed)
        self.graph, self.steps = None, 0
        # a graph is recorded off the default stream, and so are the steps before it
        self.stream = torch.cuda.Stream() if self.wants_graph else torch.cuda.current_stream()
        self.synchronize()

    def train(self):
        with torch.cuda.stream(self.stream):
            if self.wants_graph and self.steps == WARM_UP:
                self.capture()
            if self.graph is None:
                self.backward()
            else:
                self.graph.replay()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.steps += 1

    def backward(self):
        self.optimizer.zero_grad(set_to_none=True)
        # casts of weights that are kept from step to step would not be recorded
        with torch.autocast('cuda', torch.float16, enabled=self.mixed, cache_enabled=not self.wants_graph):
            attention_logits, logits, _ = self.net(self.x)
            self.last_loss = (self.cross_entropy(attention_logits, self.t)
                              + self.cross_entropy(logits, self.t))
        self.scaler.scale(self.last_loss).backward()

    def capture(self):
        """Record forward and backward; nothing is computed yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.backward()
        self.graph = graph

    def loss(self):
        self.synchronize()
        return self.last_loss.item()

    def synchronize(self):
        torch.cuda.synchronize()

    def free(self):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def memory(self):
        return {'reserved': torch.cuda.max_memory_reserved(), 'allocated': torch.cuda.max_memory_allocated()}

    def about(self):
        return {'parameters': sum(p.numel() for p in self.net.parameters()),
                'versions': {'python': platform.python_version(), 'torch': torch.__version__,
                             'cudnn': str(torch.backends.cudnn.version()),
                             'gpu': torch.cuda.get_device_name()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--graph', action='store_true')
    args = parser.parse_args()
    serve(Torch(args.channels_last, args.graph))


if __name__ == '__main__':
    main()
