"""Whether a device can be used, asked before anything is built for it."""

import re
from typing import Any


def check_device(device: Any) -> None:
    """Refuse a device that does not exist here or computes nothing.

    torch is imported only for another device than the CPU.

    Args:
        device: ``'cpu'``, ``'cuda:0'`` and so on; None for the default, which always works.

    Raises:
        ValueError: It can't be used; the message says why.
    """
    if device is None or str(device) == 'cpu':
        return
    import torch

    try:
        torch.zeros(1, device=device).tolist()
    except Exception as error:  # torch's own, several kinds: no driver, not compiled for it, ...
        reason = re.split(r'\. |\n', str(error))[0]
        if isinstance(error, NotImplementedError):  # whose text names operators
            reason = 'this torch computes nothing on it'
        raise ValueError(
            f"the device {str(device)!r} can not be used: {reason}; 'cpu' always can"
        ) from None
