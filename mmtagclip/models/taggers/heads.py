"""From dense features to tags: TagCLIP's head, and plain CLIP's class token for comparison."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ...clip import DenseFeatures, Encoded, Names
from ...registry import MODELS
from .calibration import Calibration
from .cwr import CWR
from .dmar import DMAR
from .scoring import SCORINGS, coarse_scores, name_scores
from .selection import TagRule

__all__ = [
    'ClassTokenHead',
    'TagCLIPHead',
    'TagHead',
    'TagScores',
    'check_finite',
    'coarse_scores',
]


@dataclass
class TagScores:
    """Scores of a batch of images of one size.

    Attributes:
        scores: ``(B, F)`` image scores of the foreground classes.
        score_maps: ``(B, F, h, w)`` their scores on the patch grid; None if the
            head makes none.
        names: Of the F classes, where they were chosen for the image; else None.
        shares: ``(B, R)``, how much each descriptor spoke for its class, see
            :meth:`mmtagclip.clip.Described.shares`; None without descriptions.
    """

    scores: Tensor
    score_maps: Tensor | None
    names: tuple[str, ...] | None = None
    shares: Tensor | None = None


class TagHead(nn.Module):
    """What turns features into scores, and the rule that turns its scores into tags.

    Args:
        threshold: ``k`` of :func:`relative_threshold` for the tags.
        min_score: Lowest score of a tag, in [0, 1]; 0 for none. If None, there is none in
            tests and pseudo labels, and inferencers, the command line and the web page use
            :meth:`TagCLIP.noise_level`.
        top: Most tags of an image; any number if None.

    Attributes:
        calibration: What the scores go through at last, see :meth:`TagCLIP.load_fitted`; None for
            nothing.

    Raises:
        TypeError: A value of another type.
        ValueError: A value is out of range.
    """

    calibration: Calibration | None
    attention_layers: tuple[tuple[int, ...], ...] = ()
    needs_votes = False
    scoring = 'softmax'

    def __init__(
        self, threshold: float = 0.5, min_score: float | None = None, top: int | None = None
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.min_score = min_score
        self.top = top
        _ = self.rule  # refuses bad values
        self.calibration = None
        self.register_forward_hook(_calibrated)

    @property
    def rule(self) -> TagRule:
        """The rule that turns scores into tags."""
        return TagRule(self.threshold, top=self.top).but(min_score=self.min_score)


def _calibrated(head: Any, inputs: tuple[Encoded, Names], scored: TagScores) -> TagScores:
    """What a head returns, calibrated."""
    if head.calibration is None:
        return scored
    return replace(scored, scores=head.calibration.calibrate(scored.scores, *inputs))


@MODELS.register_module()
class TagCLIPHead(TagHead):
    """Coarse scores, DMAR, image scores, CWR, each of the last three by its config.

    Args:
        dmar: Config of the attention refinement, or None for coarse scores.
        cwr: Config of the reidentification, or None to leave it out.
        threshold: See :class:`TagHead`; published: 0.5 (0.1 on COCO-Stuff).
        scorer: Config of a part that scores the patches ``(B, N, D)`` instead of
            :func:`coarse_scores` (``mmtagclip.GaussianClassifier``), or None.
        min_score: See :class:`TagHead`.
        top: The same.
        scoring: ``'softmax'`` over all names, as published, or ``'sigmoid'``, name by name, for
            models that were trained so (SigLIP); CWR scores alike.
        shortlist: DMAR and CWR refine only this many classes of an image, those of the highest
            coarse scores; the others score 0. For lists of thousands of names. If None, all.

    Raises:
        TypeError: ``shortlist`` is no whole number.
        ValueError: ``scoring`` is unknown, or ``shortlist`` is below 1.
    """

    def __init__(
        self,
        dmar: ConfigDict | dict | DMAR | None = None,
        cwr: ConfigDict | dict | CWR | None = None,
        threshold: float = 0.5,
        scorer: ConfigDict | dict | nn.Module | None = None,
        min_score: float | None = None,
        top: int | None = None,
        scoring: str = 'softmax',
        shortlist: int | None = None,
    ) -> None:
        super().__init__(threshold, min_score, top)
        if shortlist is not None and type(shortlist) is not int:
            raise TypeError(f'shortlist must be a whole number, not {shortlist!r}')
        if shortlist is not None and shortlist < 1:
            raise ValueError(f'shortlist must be at least 1, not {shortlist}')
        self.shortlist = shortlist
        if scoring not in SCORINGS[:2]:
            raise ValueError(f"scoring must be 'softmax' or 'sigmoid', not {scoring!r}")
        self.scoring = scoring
        self.scorer = MODELS.build(scorer) if isinstance(scorer, dict) else scorer
        self.dmar = MODELS.build(dmar) if isinstance(dmar, dict) else dmar
        self.cwr = MODELS.build(cwr) if isinstance(cwr, dict) else cwr

    @property
    def attention_layers(self) -> tuple[tuple[int, ...], ...]:  # type: ignore[override]
        """Sets of layers whose mean attention map the head needs."""
        return () if self.dmar is None else (self.dmar.layers,)

    @property
    def needs_votes(self) -> bool:  # type: ignore[override]
        """Whether the head needs the votes of the attention maps."""
        return self.dmar is not None

    def forward(self, encoded: Encoded, names: Names) -> TagScores:
        """Score a batch.

        Args:
            encoded: The images, with the attention statistics that the head needs.
            names: The names to find, and those that compete with them.

        Raises:
            ValueError: The features are not finite, or CWR needs them on the image's
                grid and they are on another.
        """
        features, encoder = encoded.features, encoded.encoder
        text, owners = compared(encoded, names)
        maps = (
            name_scores(features.patches, encoder.patch_text(text), encoder, self.scoring, owners)
            if self.scorer is None
            else self.scorer(features.patches)
        )
        count, labels = names.num_foreground, None
        if self.shortlist is not None and self.shortlist < count:
            labels = shortlist(maps[..., :count].amax(dim=1), self.shortlist)
            others = torch.arange(count, maps.shape[-1], device=maps.device)
            columns = torch.cat([labels, others.expand(len(labels), -1)], dim=1)
            maps = maps.gather(2, columns[:, None].expand(-1, maps.shape[1], -1))
            count = self.shortlist
        if self.dmar is not None:
            maps = self.dmar(maps, features.attention, features.grid)
        scores = maps[..., :count].amax(dim=1)
        if self.cwr is not None:
            if (
                tuple(side * encoder.patch_size for side in features.grid)
                != encoded.images.shape[2:]
            ):
                raise ValueError(
                    f'CWR crops the image by its own patches, but the features are on a '
                    f'grid of {features.grid[0]}x{features.grid[1]}: set '
                    'keep_grid=False'
                )
            scores = self.cwr(
                maps,
                scores,
                features.grid,
                encoded.images,
                text,
                encoder,
                self.scoring,
                owners,
                labels,
            )
        check_finite(features, scores)
        foreground = maps[..., :count].transpose(1, 2)
        if labels is not None:
            every = names.num_foreground
            scores = scores.new_zeros(len(scores), every).scatter(1, labels, scores)
            index = labels[..., None].expand_as(foreground)
            empty = foreground.new_zeros(len(scores), every, foreground.shape[2])
            foreground = empty.scatter(1, index, foreground)
        return TagScores(scores, foreground.unflatten(2, features.grid))


@MODELS.register_module()
class ClassTokenHead(TagHead):
    """Plain CLIP's global score: the softmax of its global feature over all names.

    The baseline that TagCLIP is compared with. Makes no score maps.

    Args:
        threshold: See :class:`TagHead`.
        min_score: The same.
        top: The same.
        scoring: ``'softmax'``, ``'sigmoid'`` for models that were trained so, or ``'cosine'``,
            as CLIP_benchmark ranks images.

    Raises:
        ValueError: ``scoring`` is unknown.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        min_score: float | None = None,
        top: int | None = None,
        scoring: str = 'softmax',
    ) -> None:
        super().__init__(threshold, min_score, top)
        if scoring not in SCORINGS:
            raise ValueError(f'scoring must be one of {", ".join(SCORINGS)}, not {scoring!r}')
        self.scoring = scoring

    def forward(self, encoded: Encoded, names: Names) -> TagScores:
        """Score a batch; arguments as in :class:`TagCLIPHead`."""
        class_token = encoded.encoder.ordinary_class_token(encoded.features)
        text, owners = compared(encoded, names)
        scores = name_scores(class_token[:, None], text, encoded.encoder, self.scoring, owners)
        check_finite(encoded.features, scores[:, 0])
        return TagScores(scores[:, 0, : names.num_foreground], None)


def shortlist(scores: Tensor, count: int) -> Tensor:
    """The classes of the highest scores of each image ``(B, count)``, ascending.

    Args:
        scores: ``(B, F)``; of equal ones, the first class counts.
        count: How many, at most F.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    return order[:, :count].sort(dim=1).values


def compared(encoded: Encoded, names: Names) -> tuple[Tensor, Tensor | None]:
    """What images are compared with, see :meth:`mmtagclip.clip.Names.compared`."""
    if not names.needs_class_token:
        return names.compared()
    return names.compared(encoded.encoder.ordinary_class_token(encoded.features))


def check_finite(features: DenseFeatures, scores: Tensor | None = None) -> None:
    """Refuse features with NaN or infinite values, which would silently give wrong tags.

    The host waits once, so this comes last: no step before needs finite values.

    Args:
        features: Of the images.
        scores: ``(B, F)``, made from them; the features of a crop can spoil these too.

    Raises:
        ValueError: Some are not finite.
    """
    found = {'features': features.patches.flatten(1)}
    if scores is not None:
        found['scores'] = scores
    bad = torch.stack([~torch.isfinite(one).all(dim=1) for one in found.values()]).tolist()
    for what, images in zip(found, bad, strict=True):
        if any(images):
            places = [index for index, one in enumerate(images) if one]
            raise ValueError(
                f'the {what} of image {places} of the batch are not finite: the weights are '
                'damaged, or the dtype is too narrow for them (try float32)'
            )
