"""A memory bank beside a segmentor: what becomes a row of it, and what its neighbours say."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ...clip import Vocabulary
from ...regions.bank import CANDIDATES, MemoryBank, region_means, unit_region_means
from ...regions.features import AffinitySource
from ...regions.grids import nearest
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from .base import EncodedImage, build
from .companions import companions_of
from .windows import SlidingWindows, Window

MOST_REGIONS = 4096  # of an image: each is a query, and has a share of every place of the features
LONGEST_SIDE = 2048  # in pixels, as published
CHANNELS = 64  # of a map that are held at the image's size together


@MODELS.register_module()
class BankProcessor(nn.Module):
    """Mixes the cosines of an image with those of its regions' neighbours in a memory bank.

    A region's query is the mean of another model's features over it; pixels that belong to no
    region are one, too. The mean CLIP vector of the nearest regions in the bank is compared with
    the words, and the cosines hold for all pixels of the region (CorrCLIP's second version).

    Args:
        bank: File of the bank, see ``mmtagclip bank``.
        source: Config of the :class:`AffinitySource` that the bank's keys are of. Default: that of
            the encoder's last block, if it sees the whole image.
        neighbours: How many regions are averaged; published: 20.
        weight: Share of the neighbours' cosines in the sum, in [0, 1]; published: 0.5.
        search: ``'exact'`` or ``'faiss'``; see :class:`MemoryBank`.
        nprobe: See :class:`MemoryBank`.
        candidates: See :class:`MemoryBank`.
        others: Further encoders with banks of the same regions, such as
            ``[dict(encoder=dict(type='mmtagclip.CLIPEncoder', ...), bank='other.safetensors')]``.
            The cosines are the mean of all of them.
        templates: Prompt templates of the further encoders' text features.

    Raises:
        FileNotFoundError: There is no such bank, or no index for ``'faiss'``.
        ImportError: FAISS is missing.
        ValueError: An option is out of range, a bank is damaged, or the banks hold other regions.
    """

    needs_regions = True

    def __init__(
        self,
        bank: str | Path | MemoryBank,
        source: ConfigDict | dict | AffinitySource | None = None,
        neighbours: int = 20,
        weight: float = 0.5,
        search: str = 'exact',
        nprobe: int = 256,
        candidates: int = CANDIDATES,
        others: Sequence[Mapping[str, Any]] = (),
        templates: str | Sequence[str] = 'templates_80',
    ) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f'BankProcessor needs neighbours >= 1, not {neighbours}')
        if not 0 <= weight <= 1:
            raise ValueError(f'BankProcessor needs weight in [0, 1], not {weight}')
        if not isinstance(bank, MemoryBank):
            bank = MemoryBank(bank, search, nprobe, candidates)
        self.bank = bank
        self.source: AffinitySource | None = build(source)
        self.neighbours = neighbours
        self.weight = weight
        self.templates = templates
        self.encoders = nn.ModuleList()
        self.banks: list[MemoryBank] = []
        for other in others:
            if set(other) != {'encoder', 'bank'}:
                raise ValueError(
                    f'one of the others needs encoder and bank, not {", ".join(other) or "nothing"}'
                )
            encoder, theirs = build(other['encoder']), MemoryBank(other['bank'])
            theirs.check_encoder(encoder)
            self.bank.check_regions(theirs)
            self.encoders.append(encoder)
            self.banks.append(theirs)

    def attach(self, encoder: CLIPEncoder, templates: str | Sequence[str] | None = None) -> None:
        """Check that the bank fits the segmentor's encoder.

        Args:
            encoder: The segmentor's.
            templates: Ignored.

        Raises:
            ValueError: It is of another encoder or source, or there is no source.
        """
        self.bank.check_encoder(encoder)
        policy: Any = encoder.last_block
        source = self.source
        if source is None and policy is not None and policy.whole_grid is not None:
            source = policy.source
        if source is None:
            raise ValueError(
                'the last block of this encoder sees no whole image, so BankProcessor needs the '
                'source of the features that find regions in the bank: set source'
            )
        self.bank.check_source(source)

    def check_words(self, words: Vocabulary) -> None:
        """Check nothing: neighbours are compared with any words."""

    @property
    def search(self) -> str:
        """How the bank is searched."""
        return self.bank.search_by

    @property
    def nprobe(self) -> int:
        """Lists of FAISS's index that are searched."""
        return self.bank.nprobe

    @property
    def candidates(self) -> int:
        """How many rows FAISS's index names for a query."""
        return self.bank.candidates

    @property
    def others(self) -> list[dict[str, Any]]:
        """The further encoders with their banks."""
        return [
            {'encoder': encoder, 'bank': bank}
            for encoder, bank in zip(self.encoders, self.banks, strict=True)
        ]

    @property
    def needs_original(self) -> bool:
        """Whether it needs the original image."""
        return self.source is not None

    def forward(
        self, cosines: Tensor, image: EncodedImage, text: Tensor, words: Vocabulary
    ) -> Tensor:
        """Mix the cosines.

        Args:
            cosines: ``(K, h, w)`` of the whole image, not flipped.
            image: The image, with its regions.
            text: ``(K, D)``, text features of the words.
            words: The K words, for the further encoders.

        Returns:
            ``(K, h, w)``.

        Raises:
            ValueError: The image has too many regions.
        """
        assert image.regions is not None
        rows, columns = (
            nearest(old, new)
            for old, new in zip(image.regions.shape, cosines.shape[1:], strict=True)
        )
        ids = torch.from_numpy(np.ascontiguousarray(image.regions))[rows][:, columns]
        ids = ids.to(cosines.device)
        regions = check_count(ids.unique())
        _, means = unit_region_means(self._features(image), ids)
        found = self.bank.search(F.normalize(means), self.neighbours)
        theirs = [cosines_of(self.bank, found, text)]
        encoders: Sequence[Any] = list(self.encoders)
        for encoder, bank in zip(encoders, self.banks, strict=True):
            other = encoder.patch_text(encoder.encode_names(words, self.templates))
            theirs.append(cosines_of(bank, found, other.to(text.device)))
        mean = torch.stack(theirs).mean(dim=0)
        spread = mean.T[:, torch.searchsorted(regions, ids)]
        return (1 - self.weight) * cosines + self.weight * spread

    def _features(self, image: EncodedImage) -> Tensor:
        """Features ``(C, h', w')`` of the original image."""
        if self.source is None:
            assert image.whole is not None
            return image.whole
        assert image.original is not None
        device = next(self.source.parameters()).device
        return features_of(self.source, image.original[..., ::-1], device)


@MODELS.register_module()
class RegionEncoder(nn.Module):
    """What becomes of the regions of an image in a memory bank: keys and values.

    A region's value is the mean of CLIP's features over its pixels: those of all windows, resized,
    averaged and resized to the image, not of unit length. Its key is the mean of another model's
    features, of unit length at each pixel.

    Args:
        encoder: Config of the frozen encoder; published: CorrCLIP's first last block without merge.
        source: Config of the :class:`AffinitySource` of the keys.
        windows: Config of :class:`SlidingWindows`; published: 336 by 112, ``pad_to=56``, which is
            the default.
        side: Shorter side of the resized image, in pixels; published: 448.

    Raises:
        ValueError: ``side`` is not positive.
    """

    def __init__(
        self,
        encoder: ConfigDict | dict | CLIPEncoder,
        source: ConfigDict | dict | AffinitySource,
        windows: ConfigDict | dict | nn.Module | None = None,
        side: int = 448,
    ) -> None:
        super().__init__()
        if side < 1:
            raise ValueError(f'RegionEncoder needs side >= 1, not {side}')
        self.encoder: CLIPEncoder = build(encoder)
        self.source: AffinitySource = build(source)
        self.windows = SlidingWindows(336, 112, pad_to=56) if windows is None else build(windows)
        if self.windows.patch_size is None:
            self.windows.patch_size = self.encoder.patch_size
        self.side = side

    @torch.no_grad()
    def forward(self, image: np.ndarray, regions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Encode the regions of an image.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            regions: ``(H, W)`` integers, the region of each pixel; 0 is none.

        Returns:
            The R ids, ascending, without 0; keys ``(R, K)`` and values ``(R, D)``, float32, unit
            length.

        Raises:
            ValueError: The sizes differ, there are too many regions, or features are not finite.
        """
        if regions.shape != image.shape[:2]:
            raise ValueError(
                f'regions of {regions.shape[1]}x{regions.shape[0]} pixels do not fit an image of '
                f'{image.shape[1]}x{image.shape[0]}'
            )
        device = next(self.encoder.parameters()).device
        ids = torch.from_numpy(np.ascontiguousarray(regions)).to(device)
        check_count(ids.unique())
        resized = mmcv.imrescale(image, (max(LONGEST_SIDE, self.side), self.side))
        mean, std = (
            torch.tensor(one, device=device)[:, None, None]
            for one in (self.encoder.mean, self.encoder.std)
        )
        scaled = torch.from_numpy(resized).to(device).permute(2, 0, 1).float()
        policy = self.encoder.last_block
        whole = None
        if policy is not None and policy.whole_grid is not None:
            whole = policy.whole_features(pixels_of(image, device))
        encoded = EncodedImage(
            size=regions.shape,
            original=None,
            flip=None,
            image=(scaled / 255 - mean) / std,
            tagging=None,
            features=None,
            regions=regions,
            whole=whole,
        )
        found, values = region_means(self._maps(encoded), ids)
        _, keys = unit_region_means(features_of(self.source, image, device), ids)
        if not (torch.isfinite(values).all() and torch.isfinite(keys).all()):
            raise ValueError('the features are not finite: the weights are damaged')
        real = found != 0
        return found[real], F.normalize(keys[real]), F.normalize(values[real])

    def _maps(self, encoded: EncodedImage) -> Iterator[Tensor]:
        """The features of an image at its own size, ``(c, H, W)``, some channels at a time."""
        kept: list[Tensor] = []
        image = encoded.image
        assert image is not None

        def encode(crops: Tensor, windows: Sequence[Window]) -> Tensor:
            companions = companions_of(self.encoder, encoded, windows)
            features, grid = self.encoder.raw_patches(crops, companions)
            kept.append(features.transpose(1, 2).unflatten(2, grid))
            return features.new_zeros(len(crops), 1, *grid)

        self.windows(image, encode)
        for channels in torch.arange(kept[0].shape[1]).split(CHANNELS):
            again = iter(kept)
            whole = self.windows(image, lambda *_, c=channels, k=again: next(k)[:, c])
            yield F.interpolate(
                whole[None], size=encoded.size, mode='bilinear', align_corners=False
            )[0]


def check_count(regions: Tensor) -> Tensor:
    """Refuse more regions of an image than a bank can be asked for.

    Raises:
        ValueError: There are more.
    """
    if len(regions) > MOST_REGIONS:
        raise ValueError(
            f'the image has {len(regions)} regions, and a memory bank takes at most '
            f'{MOST_REGIONS}: use regions of more pixels'
        )
    return regions


def features_of(source: AffinitySource, image: np.ndarray, device: Any) -> Tensor:
    """Features ``(C, h', w')`` of a whole image ``(H, W, 3)`` uint8 RGB.

    Raises:
        ValueError: The source returns none.
    """
    features = source(pixels_of(image, device)).features
    if features is None:
        raise ValueError(f'{type(source).__name__} returned no features')
    return features[0].float()


def pixels_of(image: np.ndarray, device: Any) -> Tensor:
    """A whole image ``(H, W, 3)`` uint8 RGB as ``(1, 3, H, W)`` float32 in [0, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return pixels.permute(2, 0, 1)[None].float() / 255


def cosines_of(bank: MemoryBank, rows: Tensor, text: Tensor) -> Tensor:
    """Cosines ``(R, K)`` of the mean values of rows ``(R, k)``, -1 for none, with ``(K, D)``."""
    there = rows >= 0
    values = bank.values(rows.clamp(min=0)) * there[..., None]
    return F.linear(F.normalize(values.sum(dim=1), dim=1), text)
