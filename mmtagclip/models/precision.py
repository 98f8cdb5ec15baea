"""Keep autocast out: the encoder's dtype is a choice of its own, scores are float32."""

import functools
from collections.abc import Callable
from typing import Any

import torch


def full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Run a module's method without autocast.

    Otherwise, a test loop's ``fp16=True`` would narrow votes, score maps and
    crops. The encoder's ``dtype`` narrows only what can be narrow.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return method(self, *args, **kwargs)

    return run
