"""The functions that Chainer calls; the module stands for ``cupy.cudnn``."""
from chainer_abn.runtime.cudnn.convolution import (  # noqa: F401
    convolution_backward_data,
    convolution_backward_filter,
    convolution_forward,
    get_max_workspace_size,
    is_tensor_core_available,
    set_max_workspace_size,
)
from chainer_abn.runtime.cudnn.dropout import DropoutStates  # noqa: F401
from chainer_abn.runtime.cudnn.elementwise import (  # noqa: F401
    activation_backward,
    activation_forward,
    softmax_backward,
    softmax_forward,
)
from chainer_abn.runtime.cudnn.normalization import (  # noqa: F401
    batch_normalization_backward,
    batch_normalization_forward_inference,
    batch_normalization_forward_training,
    batch_normalization_forward_training_ex,
)
from chainer_abn.runtime.cudnn.pooling import pooling_backward, pooling_forward  # noqa: F401
