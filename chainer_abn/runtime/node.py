"""A whole block as one node of Chainer's graph in training."""
from chainer_abn.runtime.blocks import Plain
from chainer_abn.runtime.layers import parameters_of

import chainer


class TrainingNode(chainer.FunctionNode):
    """A block in training: x and the block's parameters -> what it declares.

    Args:
        new_tape: masks of dropout, or None where they are to be drawn -> a tape, which has the operations
            of :mod:`~chainer_abn.runtime.blocks` on maps of its own and goes back over them:

            - ``enter(x, needs_grad)``, ``leave(maps)``: from an array to maps and back
            - ``give(maps, gy)``: the gradient of maps that left
            - ``backward()``: over all operations, once
            - ``gradient(maps)``, ``gradients[id(parameter)]``: what came of it, arrays
            - ``masks``: of dropout, in order
    """

    def __init__(self, new_tape, block, parameters, x_needs_grad):
        self.new_tape, self.block, self.parameters = new_tape, block, parameters
        self.x_needs_grad = x_needs_grad
        self.tape = self.masks = None           # the masks stay for a second way back

    @property
    def label(self):
        return type(self.block).__name__

    def forward(self, inputs):
        self.retain_inputs(tuple(range(len(inputs))))
        self.record(inputs[0])
        return tuple(map(self.tape.leave, self._y))

    def record(self, x):
        self.tape = self.new_tape(self.masks)
        self._x = self.tape.enter(x, self.x_needs_grad)
        outputs = self.block.declare(self.tape, self._x)
        self._y = outputs if isinstance(outputs, tuple) else (outputs,)
        self.masks = self.tape.masks

    def backward(self, indexes, grad_outputs):
        if chainer.config.enable_backprop:
            return self.differentiable(indexes, grad_outputs)
        if self.tape is None:           # a second time: the maps are gone
            x, *_ = self.get_retained_inputs()
            with chainer.using_config('in_recomputing', True):
                self.record(x.array)
        for maps, gy in zip(self._y, grad_outputs, strict=True):
            if gy is not None:
                self.tape.give(maps, gy.array)
        self.tape.backward()
        gradients = [self.tape.gradient(self._x), *(self.tape.gradients.get(id(p)) for p in self.parameters)]
        self.tape = self._x = self._y = None
        return tuple(None if gradients[i] is None else chainer.Variable(gradients[i]) for i in indexes)

    def differentiable(self, indexes, grad_outputs):
        """The gradients as a graph of Chainer's functions, by running the block with them."""
        x, *_ = self.get_retained_inputs()
        with chainer.using_config('in_recomputing', True), chainer.using_config('train', True):
            y = self.block.declare(Replay(self.masks), x)
        outputs = y if isinstance(y, tuple) else (y,)
        inputs = [x, *self.parameters]
        wanted = [i for i in indexes if inputs[i].requires_grad]
        found = chainer.grad([y for y, gy in zip(outputs, grad_outputs, strict=True) if gy is not None],
                             [inputs[i] for i in wanted],
                             [gy for gy in grad_outputs if gy is not None], enable_double_backprop=True)
        found = dict(zip(wanted, found, strict=True))
        return tuple(found.get(i) for i in indexes)


class Replay(Plain):
    """Chainer's functions with dropout masks that were drawn before."""

    def __init__(self, masks):
        self._masks = iter(masks)

    def mask(self, x, ratio):
        return next(self._masks)


def run(new_tape, block, x):
    """The block's outputs, as variables."""
    parameters = parameters_of(block)
    y = TrainingNode(new_tape, block, parameters, x.requires_grad).apply((x, *parameters))
    return y if len(y) > 1 else y[0]
