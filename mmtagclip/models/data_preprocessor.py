"""Images to the encoder's input, without padding."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class CLIPDataPreprocessor(BaseDataPreprocessor):
    """Scale images to [0, 1] and normalise them, each at its own size.

    Unlike MMPretrain's preprocessor, it neither stacks nor pads: padding would
    change CLIP's features.

    Args:
        mean, std: Normalisation for values in [0, 1], RGB. Default: that of the model, which
            sets it.
        to_rgb: Whether the images come as BGR, as MMCV loads them.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        to_rgb: bool = True,
    ) -> None:
        super().__init__()
        self.to_rgb = to_rgb
        for key, value in (('mean', mean), ('std', std)):
            one = None if value is None else torch.tensor(value).view(3, 1, 1)
            self.register_buffer(key, one, persistent=False)

    def complete(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set what was left open to a model's normalisation."""
        for key, value in (('mean', mean), ('std', std)):
            if getattr(self, key) is None:
                one = torch.tensor(value, device=self.device).view(3, 1, 1)
                self.register_buffer(key, one, persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        """Preprocess a batch.

        Args:
            data: ``inputs``, a list of uint8 images ``(3, H, W)`` in [0, 255]
                (a tensor ``(B, 3, H, W)`` works too), and ``data_samples``.
            training: Ignored; there is no augmentation.

        Returns:
            The same keys; ``inputs`` is a list of float32 images ``(3, H, W)``.
        """
        data = self.cast_data(data)  # type: ignore[assignment]
        images = [self.normalise(image) for image in data['inputs']]
        return {'inputs': images, 'data_samples': data.get('data_samples')}

    def normalise(self, image: Tensor) -> Tensor:
        """One uint8 image ``(3, H, W)`` as float32.

        Raises:
            ValueError: The normalisation is not known.
        """
        if self.mean is None or self.std is None:
            raise ValueError(
                'CLIPDataPreprocessor does not know the normalisation of the model: set mean and '
                'std, or make it a part of the model'
            )
        if self.to_rgb:
            image = image.flip(0)
        return (image.float() / 255 - self.mean) / self.std
