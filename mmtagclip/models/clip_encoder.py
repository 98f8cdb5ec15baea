"""The frozen CLIP encoder, registered for configs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..clip import (
    LAST_BLOCKS,
    DenseEncoder,
    Described,
    Descriptions,
    LastBlock,
    LearntPooling,
    Names,
    TextEncoder,
    Vocabulary,
    cluster,
    enrich,
    load_clip,
    load_names,
    load_templates,
)
from ..registry import MODELS

# clip/ knows no OpenMMLab, so its parts enter the registry here.
for policy in LAST_BLOCKS.values():
    MODELS.register_module(module=policy)
MODELS.register_module(module=LearntPooling)


@MODELS.register_module()
class CLIPEncoder(DenseEncoder):
    """A frozen CLIP of open_clip, with text features that are cached on disk.

    Args:
        model: Architecture name, ``'local-dir:PATH'``, ``'hf-hub:ORG/REPO'``,
            architecture dict or built model; see
            :func:`mmtagclip.clip.load_clip`.
        pretrained: Tag of open_clip's weights.
        checkpoint: File of weights.
        quick_gelu: Whether the weights were trained with QuickGELU; needed only if
            neither the file nor the model says so.
        last_block: Config of what the last block does;
            see :class:`mmtagclip.clip.DenseEncoder` if None.
        dtype: ``'float32'``, ``'bfloat16'`` or ``'float16'``, of the image
            tower.
        pooling: Config of what averages alike patches, such as :class:`LearntPooling`, or None.
        positions: How the positional embedding is resized; see
            :class:`mmtagclip.clip.DenseEncoder`.
        tower: Options of the image tower's family, such as ``pool_mlp``; the same.
        mean: Mean of the normalisation that the weights were trained with, for
            values in [0, 1], RGB; needed only if neither the model's name nor its
            file says it.
        std: Its standard deviation; the same.
        text_cache: Folder of cached text features; the user's cache directory
            if None, no cache if False.
        tokenizer: Converts texts to token ids, for a model whose vocabulary is
            not CLIP's: a function, or the path of a ``tokenizer.json``; see
            :func:`mmtagclip.clip.load_clip`.
        download: Whether weights that are not on this machine may be downloaded.
        compiled: Whether ``torch.compile`` compiles the image tower's blocks, or its options; see
            :class:`mmtagclip.clip.DenseEncoder`.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] | nn.Module,
        pretrained: str | None = None,
        checkpoint: str | Path | None = None,
        quick_gelu: bool | None = None,
        last_block: ConfigDict | dict | LastBlock | None = None,
        dtype: str = 'float32',
        positions: str | None = None,
        tower: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        text_cache: str | Path | bool | None = None,
        tokenizer: Callable[..., Tensor] | str | Path | None = None,
        download: bool = False,
        pooling: ConfigDict | dict | LearntPooling | None = None,
        compiled: bool | Mapping[str, Any] = False,
    ) -> None:
        # First, so that a missing file is missed before weights are downloaded.
        pooling = MODELS.build(pooling) if isinstance(pooling, dict) else pooling
        clip = load_clip(model, pretrained, checkpoint, quick_gelu, tokenizer, download)
        policy = MODELS.build(last_block) if isinstance(last_block, dict) else last_block
        super().__init__(clip, policy, dtype, positions, tower, mean, std, pooling, compiled)
        self.text_cache = text_cache
        self._text_encoders: dict[tuple[str, ...], TextEncoder] = {}

    def names(
        self,
        classes: str | Path | Sequence | Vocabulary,
        background: str | Path | Sequence | Vocabulary,
        templates: Any,
        descriptions: Descriptions | None = None,
    ) -> Names:
        """Names with their text features, on the encoder's device.

        Args:
            classes: The classes to find; see :meth:`mmtagclip.clip.Vocabulary.load`.
            background: The names that compete with them, given in the same ways.
            templates: See :func:`mmtagclip.clip.load_templates`.
            descriptions: Of the classes, or None. The background has none.

        Raises:
            ValueError: See :func:`mmtagclip.clip.load_names`, or a class has no descriptions.
        """
        foreground, others = load_names(classes, background)
        text = self.encode_names(foreground + others, templates)
        device = next(self.parameters()).device
        if descriptions is None:
            return Names(foreground, others, text.to(device))
        described = self.describe(foreground, descriptions)
        text[: len(foreground)] = self.join(described, text[: len(foreground)], descriptions)
        return Names(foreground, others, text.to(device), described.to(device))

    def describe(self, classes: Vocabulary, descriptions: Descriptions) -> Described:
        """Text features of the prompts of the classes' descriptions, on the CPU.

        Args:
            classes: The classes.
            descriptions: Their descriptions.

        Raises:
            ValueError: A class has no descriptions, or a prompt is too long.
        """
        prompts = descriptions.prompts(classes)
        features = self._text_encoder('{}').features([(one,) for group in prompts for one in group])
        return Described(
            tuple(descriptions.source[name] for name in classes.names),
            features,
            torch.arange(len(prompts)).repeat_interleave(torch.tensor([*map(len, prompts)])),
            descriptions.join,
            descriptions.temperature,
            self.logit_scale,
        )

    @staticmethod
    def join(described: Described, text: Tensor, descriptions: Descriptions) -> Tensor:
        """One feature ``(F, D)`` for each class from those of its prompts.

        Args:
            described: The prompts' features.
            text: ``(F, D)`` features of the plain names.
            descriptions: How to join them. Where a class has no such feature (``'max'`` and
                ``'reweight'``), what needs one gets that of ``'unit'``.
        """
        if descriptions.join == 'tse':
            return enrich(text, cluster(described.features, descriptions.clusters))
        means = described.means()
        return means if descriptions.join == 'mean' else F.normalize(means, dim=-1)

    def encode_names(self, vocabulary: Vocabulary, templates: Any) -> Tensor:
        """Text features ``(C, D)``, float32, unit length, on the CPU.

        A class that was encoded before, alone or in another list, is not encoded again.

        Args:
            vocabulary: The classes.
            templates: See :func:`mmtagclip.clip.load_templates`.
        """
        return self._text_encoder(*load_templates(templates))(vocabulary)

    def _text_encoder(self, *templates: str) -> TextEncoder:
        if templates not in self._text_encoders:
            self._text_encoders[templates] = TextEncoder(self, templates, self.text_cache)
        return self._text_encoders[templates]

    def forget_disk(self) -> None:
        """Stop reading and writing text features on the disk; those in memory stay."""
        self.text_cache = False
        for encoder in self._text_encoders.values():
            encoder.cache_dir = None
