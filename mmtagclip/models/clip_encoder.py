"""The frozen CLIP encoder, registered for configs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..clip import (
    LAST_BLOCKS,
    DenseEncoder,
    LastBlock,
    Names,
    TextEncoder,
    Vocabulary,
    load_clip,
    load_names,
    load_templates,
)
from ..registry import MODELS

# clip/ knows no OpenMMLab, so its last blocks enter the registry here.
for policy in LAST_BLOCKS.values():
    MODELS.register_module(module=policy)


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
    ) -> None:
        clip = load_clip(model, pretrained, checkpoint, quick_gelu, tokenizer, download)
        policy = MODELS.build(last_block) if isinstance(last_block, dict) else last_block
        super().__init__(clip, policy, dtype, positions, tower, mean, std)
        self.text_cache = text_cache
        self._text_encoders: dict[tuple[str, ...], TextEncoder] = {}

    def names(
        self,
        classes: str | Path | Sequence | Vocabulary,
        background: str | Path | Sequence | Vocabulary,
        templates: Any,
    ) -> Names:
        """Names with their text features, on the encoder's device.

        Args:
            classes: The classes to find; see :meth:`mmtagclip.clip.Vocabulary.load`.
            background: The names that compete with them, given in the same ways.
            templates: See :func:`mmtagclip.clip.load_templates`.

        Raises:
            ValueError: See :func:`mmtagclip.clip.load_names`.
        """
        foreground, others = load_names(classes, background)
        text = self.encode_names(foreground + others, templates)
        return Names(foreground, others, text.to(next(self.parameters()).device))

    def encode_names(self, vocabulary: Vocabulary, templates: Any) -> Tensor:
        """Text features ``(C, D)``, float32, unit length, on the CPU.

        A class that was encoded before, alone or in another list, is not encoded again.

        Args:
            vocabulary: The classes.
            templates: See :func:`mmtagclip.clip.load_templates`.
        """
        prompts = load_templates(templates)
        if prompts not in self._text_encoders:
            self._text_encoders[prompts] = TextEncoder(self, prompts, self.text_cache)
        return self._text_encoders[prompts](vocabulary)

    def forget_disk(self) -> None:
        """Stop reading and writing text features on the disk; those in memory stay."""
        self.text_cache = False
        for encoder in self._text_encoders.values():
            encoder.cache_dir = None
