"""References beside a segmentor: how they are found in images, and what they add to its cosines."""

from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ...clip import Vocabulary, load_templates
from ...regions.features import AffinitySource
from ...regions.references import (
    SHARPNESS,
    ReferenceBank,
    agreement,
    cosegment,
    place_cosines,
    product,
)
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from .bank import LONGEST_SIDE, features_of, pixels_of
from .base import EncodedImage, build
from .windows import resize

CONTEXTS = ('tree', 'sky', 'building', 'road', 'person')
JOINS = ('better', 'product')
# Of an encoder's identity, besides its weights: what the levels of cosines depend on.
LEVEL_KEYS = ('last_block', 'positions', 'tower', 'pooling')


@MODELS.register_module()
class ReferenceProcessor(nn.Module):
    """Adds references to the cosines of an image (ReCo, NeurIPS 2022).

    The cosines of a word's reference with another model's features of the image are brought to the
    mean and the deviation that the cosines of the word's text have in the images that the reference
    is from. The word has the higher of the two at each pixel. Words without a reference keep their
    text's.

    Args:
        bank: File of the references, see ``mmtagclip references``.
        source: Config of the :class:`AffinitySource` that the references are of.
        join: ``'better'``, as above; or ``'product'``, as published: the sigmoid of ten times the
            text's cosine times that of the reference's. Then the head needs ``logit_scale=1`` for
            the published probabilities, and each word needs a reference.
        side: Shorter side in pixels of the image that the source sees; published: 320.

    Raises:
        FileNotFoundError: There is no such bank.
        ValueError: An option is out of range, or the bank is damaged.
    """

    needs_regions = False
    needs_original = True

    def __init__(
        self,
        bank: str | Path | ReferenceBank,
        source: ConfigDict | dict | AffinitySource,
        join: str = 'better',
        side: int = 320,
    ) -> None:
        super().__init__()
        if join not in JOINS:
            raise ValueError(f'join must be one of {", ".join(JOINS)}, not {join!r}')
        if side < 1:
            raise ValueError(f'ReferenceProcessor needs side >= 1, not {side}')
        self.bank = bank if isinstance(bank, ReferenceBank) else ReferenceBank(bank)
        self.source: AffinitySource = build(source)
        self.join = join
        self.side = side

    def attach(self, encoder: CLIPEncoder, templates: str | Sequence[str] | None = None) -> None:
        """Check that the bank fits the segmentor's encoder.

        Args:
            encoder: The segmentor's.
            templates: Prompt templates of the segmentor's words, if they are known.

        Raises:
            ValueError: It is of another encoder or source; or, to join by the better, of another
                last block, other positions, another tower or pooling, or other templates.
        """
        self.bank.check_encoder(encoder)
        self.bank.check_source(self.source)
        if self.join == 'better':
            self._check_levels(encoder, templates)

    def _check_levels(self, encoder: CLIPEncoder, templates: str | Sequence[str] | None) -> None:
        """Refuse a bank whose levels are not those of the segmentor's cosines."""
        start = f"{self.bank.path} does not fit join='better': its references have "
        ours, theirs = encoder.identity, self.bank.facts['encoder']
        for key in LEVEL_KEYS:
            own, other = ours.get(key, 'none'), theirs.get(key, 'none')
            if own != other:
                raise ValueError(
                    f'{start}the {key} {other}, but the segmentor has {own}: make references with '
                    'this encoder'
                )
        others = self.bank.facts['settings'].get('templates')
        if templates is None or others is None:
            return
        owns = list(load_templates(templates))
        if owns != others:
            raise ValueError(
                f'{start}{len(others)} templates such as {others[0]!r}, but the segmentor has '
                f'{len(owns)} others such as {owns[0]!r}: make references with these templates, or '
                'set head.templates'
            )

    def check_words(self, words: Vocabulary) -> None:
        """Refuse words that the bank does not have.

        Args:
            words: All words that will be compared.

        Raises:
            ValueError: It has none of them, or not all of them for the product.
        """
        missing = [name for name in words.names if self.bank.row(name) is None]
        if missing and (self.join == 'product' or len(missing) == len(words)):
            more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
            raise ValueError(
                f'{self.bank.path} has no reference for {", ".join(map(repr, missing[:3]))}{more}: '
                'make references for these words with mmtagclip references'
            )

    def forward(
        self, cosines: Tensor, image: EncodedImage, text: Tensor, words: Vocabulary
    ) -> Tensor:
        """Join the cosines with those of the references.

        Args:
            cosines: ``(K, h, w)`` of the whole image, not flipped.
            image: The image, with its original.
            text: Ignored.
            words: The K words.

        Returns:
            ``(K, h, w)``.
        """
        found = [(index, self.bank.row(name)) for index, name in enumerate(words.names)]
        there = [(index, row) for index, row in found if row is not None]
        if not there:
            return cosines
        indices, rows = map(list, zip(*there, strict=True))
        theirs = self._cosines(image, rows)
        size = (cosines.shape[1], cosines.shape[2])
        if self.join == 'product':
            return product(cosines, theirs, size)
        mean, deviation, own_mean, own_deviation = self.bank.levels[rows].to(theirs).T[..., None]
        scale = (deviation / own_deviation.clamp(min=1e-6))[..., None]
        levelled = (theirs - own_mean[..., None]) * scale + mean[..., None]
        joined = cosines.clone()
        joined[indices] = torch.maximum(cosines[indices], resize(levelled[None], size)[0])
        return joined

    def _cosines(self, image: EncodedImage, rows: Sequence[int]) -> Tensor:
        """Cosines ``(R, h', w')`` of the original image with references."""
        assert image.original is not None
        rgb = image.original[..., ::-1]
        rgb = mmcv.imrescale(rgb, (max(LONGEST_SIDE, self.side), self.side))
        device = next(self.source.parameters()).device
        features = features_of(self.source, rgb, device)
        references = self.bank.references[list(rows)].to(device)
        return place_cosines(features[None], references)[0]


@MODELS.register_module()
class ReferenceEncoder(nn.Module):
    """Finds what words look like in unlabelled images by co-segmentation (ReCo, NeurIPS 2022).

    A word's images are those whose whole has the highest cosine with it. A place counts as much as
    its patches agree with the word, and less if they agree with the references of the contexts,
    which are found first. The reference is the mean of one place of each image.

    Args:
        encoder: Config of the frozen encoder, of both the whole image and the patches.
        source: Config of the :class:`AffinitySource` whose features the references are.
        count: How many images a word has at most; published: 50.
        contexts: Words that are often around others, whose references are found first, each with
            those before it. A word that is a context has that reference.
        min_cosine: Images whose cosine with a word is lower are not the word's. A trained CLIP's
            cosines are hardly ever below 0, so that 0 refuses none: look at those of your images.
        templates: Prompt templates; published: ``'templates_85'``.
        side: Side in pixels of an image's centre, of which the shorter side is this; published:
            224.
        published_slices: See :func:`mmtagclip.regions.references.cosegment`.

    Raises:
        ValueError: A number is out of range, or ``side`` is no multiple of the patch size.
    """

    def __init__(
        self,
        encoder: ConfigDict | dict | CLIPEncoder,
        source: ConfigDict | dict | AffinitySource,
        count: int = 50,
        contexts: Sequence[str] = CONTEXTS,
        min_cosine: float = 0.0,
        templates: str | Sequence[str] = 'templates_85',
        side: int = 224,
        published_slices: bool = False,
    ) -> None:
        super().__init__()
        self.encoder: CLIPEncoder = build(encoder)
        self.source: AffinitySource = build(source)
        if count < 1:
            raise ValueError(f'ReferenceEncoder needs count >= 1, not {count}')
        if not -1 <= min_cosine <= 1:
            raise ValueError(f'ReferenceEncoder needs min_cosine in [-1, 1], not {min_cosine}')
        if side < 1 or side % self.encoder.patch_size:
            raise ValueError(
                f'ReferenceEncoder needs a side that is a multiple of the patch size '
                f'{self.encoder.patch_size}, not {side}'
            )
        self.count = count
        self.contexts = tuple(contexts)
        self.min_cosine = min_cosine
        self.templates = templates
        self.side = side
        self.published_slices = published_slices

    @torch.no_grad()
    def places(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """Encode the centre of an image.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.

        Returns:
            The source's features ``(C', h', w')``, and CLIP's patches ``(D, h, w)``, float32.

        Raises:
            ValueError: The source returns no features, or they are not finite.
        """
        device = next(self.encoder.parameters()).device
        height, width = image.shape[:2]
        scale = self.side / min(height, width)
        size = (max(round(scale * height), self.side), max(round(scale * width), self.side))
        pixels = F.interpolate(
            pixels_of(image, device), size=size, mode='bicubic', antialias=True
        ).clamp(0, 1)
        top, left = ((length - self.side) // 2 for length in size)
        pixels = pixels[..., top : top + self.side, left : left + self.side]
        mean, std = (
            torch.tensor(one, device=device)[:, None, None]
            for one in (self.encoder.mean, self.encoder.std)
        )
        found = self.encoder((pixels - mean) / std)
        patches = found.patches[0].T.unflatten(1, found.grid)
        features = self.source(pixels).features
        if features is None:
            raise ValueError(f'{type(self.source).__name__} returned no features')
        if not (torch.isfinite(patches).all() and torch.isfinite(features).all()):
            raise ValueError('the features are not finite: the weights are damaged')
        return features[0].float(), patches

    @torch.no_grad()
    def reference(
        self, places: Sequence[tuple[Tensor, Tensor]], text: Tensor, contexts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Find the reference of a word.

        Args:
            places: Of each of its images, see :meth:`places`.
            text: ``(D,)`` text feature of the word, to be compared with patches.
            contexts: ``(R, C')`` references of the contexts, if there are any.

        Returns:
            ``(C',)`` float32, unit length; and the four levels, see
            :mod:`mmtagclip.regions.references`.
        """
        features = torch.stack([one for one, _ in places])
        size = (features.shape[2], features.shape[3])
        dense = torch.stack([one for _, one in places])
        weights = resize(agreement(dense, text[None], SHARPNESS), size)[:, 0]
        if contexts is not None:
            weights = weights * (1 - agreement(features, contexts)).prod(dim=1)
        seeds = cosegment(features, weights, self.published_slices)
        reference = F.normalize(seeds.mean(dim=0), dim=0)
        theirs = (
            resize(place_cosines(dense, text[None]), size),
            place_cosines(features, reference[None]),
        )
        levels = [value for one in theirs for value in (one.mean(), one.std(unbiased=False))]
        return reference, torch.stack(levels)
