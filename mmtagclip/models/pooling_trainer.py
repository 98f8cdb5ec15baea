"""Training of a frozen encoder's learnt pooling (CLIP-DINOiser, ECCV 2024)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..clip import LearntPooling
from ..clip.pooling import resize_patches
from ..labels import IGNORED
from ..regions import AffinitySource
from ..registry import MODELS
from .clip_encoder import CLIPEncoder
from .taggers.tagger import check_normalisation


@MODELS.register_module()
class PoolingTrainer(BaseModel):
    """Trains the pooling of an encoder on images without labels; encoder and teacher stay frozen.

    The cosines of the pooling learn which patches another model's features find alike. Its
    objectness, if it has one, learns from masks: the patches that are not mostly background. Only
    the pooling is in the state dict, so a checkpoint of the training is a file for
    :class:`LearntPooling`. Of the encoder, no block behind the pooling's runs.

    Args:
        encoder: Config of the encoder, with a pooling.
        teacher: Config of the :class:`AffinitySource` whose features teach; published: the
            values of DINO's last block. If None, the encoder's own patches teach, less the mean of
            their image, which is no part of the published method.
        gamma: Least cosine of the teacher's features of patches that count as alike. Published for
            DINO: 0.2.
        data_preprocessor: Config; :class:`CLIPDataPreprocessor` if None.
        init_cfg: Ignored.

    Raises:
        ValueError: The encoder has no pooling, or images are not normalised as in its training.
    """

    pooling: LearntPooling

    def __init__(
        self,
        encoder: ConfigDict | dict | CLIPEncoder,
        teacher: ConfigDict | dict | AffinitySource | None = None,
        gamma: float = 0.2,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = {'type': 'mmtagclip.CLIPDataPreprocessor'}
        super().__init__(data_preprocessor, init_cfg)
        encoder = MODELS.build(encoder) if isinstance(encoder, dict) else encoder
        teacher = MODELS.build(teacher) if isinstance(teacher, dict) else teacher
        if encoder.pooling is None:
            raise ValueError(
                'PoolingTrainer trains the pooling of its encoder: set encoder.pooling, such as '
                "dict(type='mmtagclip.LearntPooling')"
            )
        self.pooling = encoder.pooling
        self.gamma = gamma
        # In a tuple, so that they are no parts: not in checkpoints, and always in eval mode.
        self.frozen = (encoder, teacher)
        check_normalisation(encoder, self.data_preprocessor)

    @property
    def encoder(self) -> CLIPEncoder:
        """The frozen encoder, to which the pooling belongs."""
        return self.frozen[0]

    @property
    def teacher(self) -> AffinitySource | None:
        """The frozen teacher, if it is another model."""
        return self.frozen[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'PoolingTrainer':
        """Move the frozen parts along, such as to another device."""
        for part in self.frozen:
            if part is not None:
                part._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
        mode: str = 'loss',
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            inputs: Images ``(3, H, W)`` of one size, normalised; H and W are multiples of the
                patch size.
            data_samples: Samples with ``gt_sem_seg``, for objectness.
            mode: ``'loss'``.

        Returns:
            ``loss_alike``, and ``loss_objectness`` if it is learnt.

        Raises:
            ValueError: The images have several sizes, masks are missing, or the mode is another.
        """
        if mode != 'loss':
            raise ValueError(
                'PoolingTrainer only trains: use its checkpoint as the pooling of a segmentor'
            )
        sizes = {tuple(one.shape[1:]) for one in inputs}
        if len(sizes) != 1:
            raise ValueError(
                f'images of a batch need one size, not {sorted(sizes)}: crop them in the pipeline'
            )
        images = torch.stack(list(inputs))
        middle, grid = self.encoder.pooling_input(images)
        unit = self.pooling.embed(middle, grid)
        # Published: cosines, without negative ones, are the logits.
        logits = (unit @ unit.transpose(1, 2)).clamp(min=0)
        alike = (self.similarity(images, grid) >= self.gamma).float()
        losses = {'loss_alike': F.binary_cross_entropy_with_logits(logits, alike)}
        found = self.pooling.find_objects(middle)
        if found is not None:
            losses['loss_objectness'] = self._objectness_loss(found, data_samples, grid)
        return losses

    @torch.no_grad()
    def similarity(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Cosines ``(B, N, N)`` of the teacher's features of all pairs of patches.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            grid: ``(h, w)``; features on another grid are resized to it.

        Raises:
            ValueError: The teacher has no features.
        """
        if self.teacher is None:
            context = self.encoder.walk(images, lambda *_: None)
            assert self.encoder.last_block is not None
            out, own = self.encoder.last_block(context)
            patches = self.encoder.read(out, own)[0]  # which are not pooled
            patches = patches - patches.mean(dim=1, keepdim=True)
        else:
            features = self.teacher(self.encoder.pixels(images)).features
            if features is None:
                raise ValueError(
                    f'{type(self.teacher).__name__} has no features to teach with: use '
                    'mmtagclip.TimmFeatures'
                )
            own = (features.shape[2], features.shape[3])
            patches = features.float().flatten(2).transpose(1, 2)
        if own != grid:
            patches = resize_patches(patches, own, grid)
        unit = F.normalize(patches, dim=-1)
        return unit @ unit.transpose(1, 2)

    def _objectness_loss(
        self, logits: Tensor, samples: Sequence[Any] | None, grid: tuple[int, int]
    ) -> Tensor:
        masks = []
        for sample in samples or [None] * len(logits):
            if sample is None or 'gt_sem_seg' not in sample:
                raise ValueError(
                    'the pooling learns objectness from masks, but '
                    f'{getattr(sample, "img_path", "an image")} has none: use a data set with '
                    'masks, or set objectness=False of the pooling'
                )
            masks.append(sample.gt_sem_seg.data)
        mask = torch.stack(masks)
        known = mask != IGNORED
        share = F.adaptive_avg_pool2d((known & (mask != 0)).float(), grid).flatten(1)
        whole = F.adaptive_avg_pool2d(known.float(), grid).flatten(1)
        # Patches without a known pixel do not count.
        weight = (whole > 0).float()
        target = (share > whole / 2).float()
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
        return (losses * weight).sum() / weight.sum().clamp(min=1)
