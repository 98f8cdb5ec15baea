"""Images to the encoder's input, without padding."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class CLIPDataPreprocessor(BaseDataPreprocessor):
    """Scale images to [0, 1] and normalise them, each at its own size.

    Unlike MMPretrain's preprocessor, it neither stacks nor pads: padding would
    change CLIP's features.

    Args:
        mean, std: Normalisation for values in [0, 1], RGB; OpenAI CLIP's by
            default.
        to_rgb: Whether the images come as BGR, as MMCV loads them.
    """

    def __init__(
        self,
        mean: Sequence[float] = OPENAI_DATASET_MEAN,
        std: Sequence[float] = OPENAI_DATASET_STD,
        to_rgb: bool = True,
    ) -> None:
        super().__init__()
        self.to_rgb = to_rgb
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)

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
        """One uint8 image ``(3, H, W)`` as float32."""
        if self.to_rgb:
            image = image.flip(0)
        return (image.float() / 255 - self.mean) / self.std
