"""MaskCLIP's two refinements of the patches' cosines (Zhou et al., ECCV 2022, sec. 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import DenseFeatures
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder

# Factor of the cosines in MaskCLIP's probabilities, and what it sets a dropped word's cosines to.
SCALE = 100.0
DROPPED = -100.0


@MODELS.register_module()
class MaskCLIPRefinement(nn.Module):
    """Prompt denoising, then key smoothing; each is off at 0.

    Probabilities are ``softmax(100 * cosines)`` over the words that are compared.

    Args:
        prompt_denoising: Words whose most probable patch is below this are
            dropped; the most probable word always stays. Published: 0.5.
        key_smoothing: Patches whose top probability is below this get
            ``k̂ k̂ᵀ`` times the probabilities of all patches, where ``k̂`` are
            the keys of block L-1, through its output projection, of unit
            length. Published: 1. The results are no longer cosines and do not
            sum to 1.
        published_keys: Whether to normalise each feature of the keys over the
            patches, as the released code does by mistake, instead of each
            patch's keys over the features.

    Raises:
        ValueError: A threshold is outside [0, 1].
    """

    def __init__(
        self,
        prompt_denoising: float = 0.0,
        key_smoothing: float = 0.0,
        published_keys: bool = False,
    ) -> None:
        super().__init__()
        for key, value in {
            'prompt_denoising': prompt_denoising,
            'key_smoothing': key_smoothing,
        }.items():
            if not 0 <= value <= 1:
                raise ValueError(f'MaskCLIPRefinement needs {key} in [0, 1], not {value}')
        self.prompt_denoising = prompt_denoising
        self.key_smoothing = key_smoothing
        self.published_keys = published_keys

    def forward(self, cosines: Tensor, features: DenseFeatures, encoder: CLIPEncoder) -> Tensor:
        """Refine the cosines of a batch.

        Args:
            cosines: ``(B, N, K)`` of the patches with the words.
            features: Features of the same images.
            encoder: The encoder that computed them.

        Returns:
            ``(B, N, K)``: -100 for words that were dropped and, with key
            smoothing, probabilities or sums of them instead of cosines.

        Raises:
            ValueError: Key smoothing, but patches and keys are on different grids.
        """
        if self.prompt_denoising:
            best = (SCALE * cosines).softmax(dim=-1).amax(dim=1, keepdim=True)
            surest = best == best.amax(dim=-1, keepdim=True)
            cosines = cosines.masked_fill((best < self.prompt_denoising) & ~surest, DROPPED)
        if not self.key_smoothing:
            return cosines
        keys = self.keys(features, encoder)
        if keys.shape[1] != cosines.shape[1]:
            raise ValueError(
                f'key_smoothing needs a key for each of the {cosines.shape[1]} '
                f'patches, but there are {keys.shape[1]}: set keep_grid=False in '
                'the last block'
            )
        probabilities = (SCALE * cosines).softmax(dim=-1)
        unsure = probabilities.amax(dim=-1, keepdim=True) < self.key_smoothing
        # From the right: two thin products instead of a map (N, N).
        smoothed = keys @ (keys.transpose(1, 2) @ probabilities)
        return torch.where(unsure, smoothed, probabilities)

    def keys(self, features: DenseFeatures, encoder: CLIPEncoder) -> Tensor:
        """Normalised keys ``k̂`` of the patches, ``(B, N, width)`` float32."""
        if not encoder.num_blocks:
            raise ValueError(f'{encoder.name} is convolutional: it has no keys for key_smoothing')
        block = encoder.tower.blocks(features.input_grid)[-1]
        _, k, _ = block.query_key_value(features.last_input)
        keys = block.attention_output(k)[:, encoder.tower.lead :]
        return F.normalize(keys, dim=1 if self.published_keys else 2)
