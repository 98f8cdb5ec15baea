"""Build modules whose weights are loaded afterwards."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

# torch.nn.init's come here themselves or by the methods that they call, as torch's version has it.
RANDOM = frozenset(
    (
        Tensor.erfinv_,  # the second half of a truncated normal distribution
        Tensor.normal_,
        Tensor.uniform_,
        init.kaiming_normal_,
        init.kaiming_uniform_,
        init.normal_,
        init.orthogonal_,
        init.trunc_normal_,
        init.uniform_,
        init.xavier_normal_,
        init.xavier_uniform_,
    )
)


class Unfilled(TorchFunctionMode):
    """In a ``with``, new modules get no random weights; load all of their weights afterwards.

    Random weights take nearly all of the time of loading: 1.4 s of a ViT-B/16, 3 s of a ViT-L/14.
    What is not a weight, such as masks and positions in buffers, is filled as always.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Leave a tensor that is to be filled with random numbers as it is."""
        kwargs = kwargs or {}
        if func in RANDOM:
            return args[0] if args else kwargs['tensor']
        return func(*args, **kwargs)
