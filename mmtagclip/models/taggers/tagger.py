"""The tagger: images to tags, as an MMPretrain classifier."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ...frameworks import pretrain  # noqa: F401

# isort: split
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.structures import BaseDataElement
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ...clip import (
    Described,
    Descriptions,
    Encoded,
    Names,
    Vocabulary,
    load_labels,
    load_names,
    read_state_dict,
)
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..data_preprocessor import CLIPDataPreprocessor
from ..precision import full_precision
from .calibration import PREFIX as CALIBRATION
from .calibration import Calibration
from .dmar import DMAR
from .heads import TagScores
from .open_names import AutoNames, OpenNames
from .piaa import GaussianClassifier
from .scoring import check_scoring
from .selection import TagRule
from .thresholds import ClassThresholds, ThresholdSource, class_thresholds, read_thresholds


@MODELS.register_module()
class TagCLIP(BaseClassifier):
    """Zero-shot multi-label tags from a frozen CLIP (TagCLIP, AAAI 2024).

    Args:
        encoder: Config of the frozen encoder.
        head: Config of the head.
        classes: The F classes to find: a built-in list (``'voc'``), a file or a
            list; see :meth:`mmtagclip.clip.Vocabulary.load`.
        background: Names that compete in the softmax but are never tags; given
            in the same ways.
        templates: Prompt templates: a built-in list, a file or a list.
        with_score_maps: Whether each result carries its score maps.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        thresholds: Of single classes, in place of the head's: a file or a mapping, see
            :func:`~mmtagclip.models.taggers.thresholds.class_thresholds`.
        init_cfg: Ignored; the encoder loads its weights when it is built.
        descriptions: What is said about each class: a file, a dict from names to descriptors, or
            a dict with ``source`` and options; see :class:`mmtagclip.clip.Descriptions`. None
            for none.

    Attributes:
        background: The names that compete with the classes.
        text: ``(C, D)`` text features, foreground first.

    Raises:
        ValueError: A class is foreground and background, images are not normalised
            as in the encoder's training, layers are unsupported by the encoder,
            or names are invalid.
    """

    encoder: CLIPEncoder
    head: Any
    text: Tensor

    def __init__(
        self,
        encoder: ConfigDict | dict | CLIPEncoder,
        head: ConfigDict | dict | nn.Module,
        classes: str | Sequence,
        background: str | Sequence = (),
        templates: str | Sequence[str] = 'templates_85',
        with_score_maps: bool = False,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        thresholds: ThresholdSource | None = None,
        init_cfg: dict | None = None,
        descriptions: ConfigDict | dict | str | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = {'type': 'mmtagclip.CLIPDataPreprocessor'}
        super().__init__(init_cfg, data_preprocessor)
        # Before any weights are read: a name that is in both is refused.
        self.classes, self.background = load_names(classes, background)
        self.thresholds = None if thresholds is None else read_thresholds(thresholds)
        if thresholds is not None:
            class_thresholds(thresholds, self.classes.names)  # refuses bad ones
        self.descriptions = None if descriptions is None else Descriptions.of(descriptions)
        if self.descriptions is not None:
            self.descriptions.check(self.classes)
        self.encoder = MODELS.build(encoder) if isinstance(encoder, dict) else encoder
        self.head = MODELS.build(head) if isinstance(head, dict) else head
        self.with_score_maps = with_score_maps
        check_normalisation(self.encoder, self.data_preprocessor)
        check_scoring(getattr(self.head, 'scoring', 'softmax'), self.encoder)
        refiner = getattr(self.head, 'dmar', None)
        if refiner is not None and not self.encoder.num_blocks:
            raise ValueError(
                f'{type(refiner).__name__} spreads scores along the attention of blocks, but '
                f'{self.encoder.name} is convolutional and has none: leave out dmar'
            )
        if isinstance(refiner, DMAR):
            refiner.set_depth(self.encoder.num_blocks)
        for layers in self.head.attention_layers:
            check_layers('the head', layers, self.encoder)
        votes = getattr(refiner, 'votes', 0)
        if votes > self.encoder.num_blocks:
            raise ValueError(
                f'DMAR has votes={votes}, but {self.encoder.name} has only '
                f'{self.encoder.num_blocks} layers: set votes to at most that'
            )
        self.templates = templates
        names = self.encoder.names(self.classes, self.background, templates, self.descriptions)
        self.register_buffer('text', names.text, persistent=False)
        self._described = names.described
        for classifier in self._classifiers():
            classifier.attach(
                self._fitted(self.classes, self.background, self.descriptions), self.encoder
            )
        self.register_load_state_dict_post_hook(_encoder_may_be_missing)

    def load_fitted(self, path: str | Path) -> None:
        """Load what was fitted to images: the head's classifier, a calibration, or both.

        With a calibration, scores go through it, and calls with other names than those of its
        fit are refused.

        Args:
            path: A checkpoint of ``mmtagclip.FitLoop`` or ``mmtagclip calibrate``.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or holds neither, or was fitted for another encoder
                or head or, in case of the classifier, other names.
        """
        try:
            calibration = Calibration.of(read_state_dict(path)[0])
            if calibration is None and not self._classifiers():
                raise ValueError(
                    'it holds no calibration of mmtagclip calibrate, and this model takes no '
                    "other fitted part; give the encoder's weights as the config's checkpoint "
                    '(--checkpoint)'
                )
            if calibration is not None:
                self._calibrate_with(calibration)
        except ValueError as error:
            raise ValueError(error if str(path) in str(error) else f'{path}: {error}') from None
        for classifier in self._classifiers():
            classifier.load(path)

    def _calibrate_with(self, calibration: Calibration) -> None:
        calibration.check_model(self.encoder, self.head)
        self.head.calibration = calibration.to(self.text.device)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Take up a calibration, for which a tagger without one has no place."""
        calibration = Calibration.of(state_dict, f'{prefix}{CALIBRATION}')
        if calibration is not None:
            self._calibrate_with(calibration)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def vocabulary(self) -> Vocabulary:
        """The foreground classes."""
        return self.classes

    @property
    def names(self) -> Names:
        """The tagger's own names, which a call may replace by those of :meth:`names_for`."""
        self.check_shortlist(len(self.classes))  # not when built: a call may have a longer list
        described = self._described
        if described is not None:
            described = described.to(self.text.device)
        return Names(self.classes, self.background, self.text, described)

    def names_for(
        self,
        classes: str | Sequence | Vocabulary | AutoNames | None = None,
        background: str | Sequence | Vocabulary | None = None,
        descriptions: Any = None,
        hide: Sequence[str] = (),
        labels: Any = None,
    ) -> Any:
        """Other names for a call; the tagger's own stay as they are.

        Only new names are encoded. Arguments left as None keep this model's value.

        Args:
            classes: As in the constructor; or where to take them from, for each image.
            background: As in the constructor. If None, the tagger's own without the
                names that are now classes.
            descriptions: As in the constructor.
            hide: Names of classes that compete with the others, but are never tags, as if they
                were background.
            labels: What results call the classes; see :func:`mmtagclip.clip.load_labels`.

        Raises:
            ValueError: As in the constructor, a name to hide is no class, or the head was fitted
                for its own names and these are others.
        """
        if isinstance(classes, AutoNames):
            if (descriptions, labels) != (None, None) or hide:
                raise ValueError(
                    'descriptions, hidden names and labels need a list of classes, not auto'
                )
            return self._open_names(classes, background)
        if (classes, background, descriptions, labels) == (None,) * 4 and not hide:
            return self._checked(self.names)
        foreground, others = load_names(
            self.classes if classes is None else classes,
            () if background is None else background,
        )
        if background is None:
            others = self.background.without(foreground)
        said = self.descriptions
        if descriptions is not None:
            said = Descriptions.of(descriptions)
            said.check(foreground)
        listed = foreground.names
        called = None if labels is None else load_labels(labels, listed)
        if hide:
            foreground, hidden = foreground.split(hide)
            foreground, others = load_names(foreground, hidden + others)
        self.check_shortlist(len(foreground))
        for classifier in self._classifiers():
            classifier.check_names(self._fitted(foreground, others, said))
        names = self.encoder.names(foreground, others, self.templates, said)
        self._checked(names)
        own = () if called is None else tuple(called[name] for name in foreground.names)
        return replace(names, labels=own or names.labels, listed=listed)

    def check_shortlist(self, count: int) -> None:
        """Refuse a shortlist that is longer than the list of classes.

        Raises:
            ValueError: It is.
        """
        shortlist = getattr(self.head, 'shortlist', None)
        if shortlist is not None and shortlist > count:
            raise ValueError(
                f'a shortlist of {shortlist} is longer than the list of {count} classes: leave '
                'it out, or set at most that'
            )

    @staticmethod
    def _fitted(
        classes: Vocabulary, background: Vocabulary, descriptions: Descriptions | None
    ) -> Vocabulary:
        """What a classifier is fitted for: the names with what they are prompted with."""
        if descriptions is None:
            return classes + background
        return Vocabulary(tuple(descriptions.prompts(classes)), classes.names) + background

    def _open_names(self, source: AutoNames, background: Any) -> OpenNames:
        """Names that are chosen for each image.

        Raises:
            ValueError: The head was fitted for its own names.
        """
        if self._classifiers() or self.head.calibration is not None:
            raise ValueError(
                'this model was fitted for its own names, so they can not be chosen for each '
                'image: use a model without a fitted classifier or calibration'
            )
        others = self.background if background is None else Vocabulary.load(background)
        return OpenNames(source, self.encoder, others, self.templates)

    def _checked(self, names: Names) -> Names:
        """The names, refused here if the head's calibration was fitted for others."""
        if self.head.calibration is not None:
            self.head.calibration.check_names(names)
        return names

    def _classifiers(self) -> list[GaussianClassifier]:
        """Parts of the head that are fitted for the class names and the encoder."""
        return [part for part in self.head.modules() if isinstance(part, GaussianClassifier)]

    def forward(
        self,
        inputs: Sequence[Tensor] | Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | list[DataSample]:
        """Run the tagger.

        Args:
            inputs: Normalised images ``(3, H, W)``, whose sides are multiples of
                the patch size.
            data_samples: One per image.
            mode: ``'tensor'`` for scores ``(B, F)``, ``'predict'`` for data
                samples; ``'loss'`` is refused.
        """
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return torch.stack([result.scores[0] for result in self.score(inputs)])
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        raise ValueError(f"mode must be 'tensor', 'predict' or 'loss', not {mode!r}")

    def loss(self, inputs: Any, data_samples: Any = None) -> Any:
        """There is nothing to train.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            'TagCLIP is training-free: there is nothing to train. Evaluate it with tools/test.py'
        )

    def predict(
        self,
        inputs: Sequence[Tensor] | Tensor,
        data_samples: list[DataSample] | None = None,
        names: Names | OpenNames | None = None,
        threshold: float | None = None,
        min_score: float | None = None,
        top: int | None = None,
        with_score_maps: bool | None = None,
        thresholds: ClassThresholds | None = None,
    ) -> list[DataSample]:
        """Tag images.

        Each data sample gets ``pred_score`` ``(F,)``, ``pred_label`` (the tags'
        indices), ``tags`` (their names) and, if requested, ``score_maps``
        ``(F, h, w)``; if classes have descriptions, also their ``shares`` ``(R,)``.
        An image that could not be read (``load_error``) gets no
        tags and scores of 0, and is not counted in metrics: all its labels become
        -1, which MMPretrain's metrics ignore.

        Args:
            inputs: As in :meth:`forward`.
            data_samples: One per image.
            names: Of :meth:`names_for`; the tagger's own if None.
            threshold: ``k`` of the relative threshold; the head's if None.
            min_score: Lowest score of a tag; the head's if None.
            top: Most tags of an image; the head's if None.
            with_score_maps: As in the constructor; the constructor's value if None.
            thresholds: Of single classes; those of the constructor if None.

        Raises:
            ValueError: Features are not finite (the message names the images), or
                an option is out of range.
        """
        names = self.names if names is None else names
        rule = self.rule_of(
            names, threshold=threshold, min_score=min_score, top=top, thresholds=thresholds
        )
        if with_score_maps is None:
            with_score_maps = self.with_score_maps
        if data_samples is None:
            data_samples = [DataSample() for _ in range(len(inputs))]
        readable = readable_samples(data_samples)
        with naming_images([data_samples[index] for index in readable]):
            results = self.score([inputs[index] for index in readable], names)
        found = [rule.mask(result.scores)[0] for result in results]
        sizes = [len(one) for one in found]
        # The host waits once for all images.
        masks = torch.cat(found).cpu().split(sizes) if found else ()
        for index, result, mask in zip(readable, results, masks, strict=True):
            sample, labels = data_samples[index], mask.nonzero().flatten()
            sample.set_pred_score(result.scores[0]).set_pred_label(labels)
            called = names.labels if result.names is None else result.names
            sample.set_field([called[label] for label in labels.tolist()], 'tags')
            if result.names is not None:
                sample.set_field(list(called), 'chosen_names')
            if with_score_maps and result.score_maps is not None:
                sample.set_field(result.score_maps[0], 'score_maps')
            if result.shares is not None:
                sample.set_field(result.shares[0], 'shares')
        for index in sorted(set(range(len(data_samples))) - set(readable)):
            self._fill_unreadable(data_samples[index], len(names.vocabulary))
        return data_samples

    def encode(
        self,
        images: Tensor,
        layers: Sequence[Sequence[int]] = (),
        inputs: Sequence[int] = (),
    ) -> Encoded:
        """Encode images of one size for the head.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            layers: Further sets of layers whose mean attention map is needed.
            inputs: Blocks whose inputs are needed.

        Returns:
            The input of the head: ``tagger.head(encoded, names)``.
        """
        head = self.head
        wanted = (*head.attention_layers, *layers)
        features = self.encoder(images, wanted, head.needs_votes, inputs=inputs)
        return Encoded(features, images, self.encoder)

    @torch.no_grad()
    @full_precision
    def score(
        self, images: Sequence[Tensor] | Tensor, names: Names | OpenNames | None = None
    ) -> list[TagScores]:
        """Scores of normalised images, equal sizes in one batch.

        Args:
            images: ``(3, H, W)`` each.
            names: Of :meth:`names_for`; the tagger's own if None.

        Returns:
            One result per image, in order, each with a batch dimension of 1.
        """
        names = self.names if names is None else names
        if isinstance(names, OpenNames):
            return [self._score_openly(image[None], names) for image in images]
        results: dict[int, TagScores] = {}
        for group in group_by_size(images):
            encoded = self.encode(torch.stack([images[index] for index in group]))
            scored = self.head(encoded, names)
            for row, index in enumerate(group):
                maps = None if scored.score_maps is None else scored.score_maps[row : row + 1]
                one = TagScores(scored.scores[row : row + 1], maps)
                if names.described is not None:
                    one.shares = self._shares(names.described, encoded, maps, row)[None]
                results[index] = one
        return [results[index] for index in range(len(images))]

    def _score_openly(self, image: Tensor, names: OpenNames) -> TagScores:
        """Scores of one image ``(1, 3, H, W)`` under the names that are chosen for it."""
        encoded = self.encode(image)
        own = names.choose(self.encoder.ordinary_class_token(encoded.features)[0])
        if own is None:
            return TagScores(image.new_zeros(1, 0), None, ())
        return replace(self.head(encoded, own), names=own.vocabulary.names)

    def _shares(
        self, described: Described, encoded: Encoded, maps: Tensor | None, row: int
    ) -> Tensor:
        """How much each descriptor spoke for its class in an image, ``(R,)``.

        Args:
            described: The descriptions.
            encoded: The batch.
            maps: ``(1, F, h, w)``, whose best patch a class was found in; None for the class token.
            row: Index of the image in the batch.
        """
        encoder, features = encoded.encoder, encoded.features
        if maps is None:
            token = encoder.ordinary_class_token(features)[row]
            return described.shares(token.expand(len(described.descriptors), -1))
        text = encoder.patch_text(described.features)
        best = maps[0].flatten(1).argmax(dim=1)
        return replace(described, features=text).shares(features.patches[row, best])

    @property
    def rule(self) -> TagRule:
        """The rule that turns the scores of the tagger's own classes into tags."""
        return self.rule_of()

    def rule_of(self, names: Names | OpenNames | None = None, **options: Any) -> TagRule:
        """The rule of a call: the head's, with thresholds of single classes.

        Args:
            names: Of :meth:`names_for`; the tagger's own if None.
            **options: See :meth:`TagRule.but`; ``thresholds`` may be a file or a mapping, too, see
                :func:`~mmtagclip.models.taggers.thresholds.class_thresholds`.

        Raises:
            TypeError: An option of another type.
            ValueError: An option is out of range, or a threshold is for an unknown name.
        """
        names = self.names if names is None else names
        given = options.pop('thresholds', None)
        source = self.thresholds if given is None else given
        if source is not None:
            if isinstance(names, OpenNames):
                raise ValueError('thresholds of single classes need a list of names, not auto')
            if not isinstance(source, ClassThresholds):
                source = class_thresholds(
                    source, names.vocabulary.names, names.background.names, names.listed
                )
        return self.head.rule.but(thresholds=source, **options)

    def rule_for(self, names: Names | OpenNames | None = None, **options: Any) -> TagRule:
        """The rule for images of which nothing is known, such as a user's: noise gets no tag.

        Args:
            names: Of :meth:`names_for`; the tagger's own if None.
            **options: See :meth:`rule_of`; the head's if left out or None. If neither the
                call nor the head has a ``min_score``, it is :meth:`noise_level`.

        Raises:
            TypeError: An option of another type.
            ValueError: An option is out of range.
        """
        if options.get('min_score') is None and self.head.min_score is None:
            options['min_score'] = self.noise_level(names)
        return self.rule_of(names, **options)

    def noise_level(self, names: Names | OpenNames | None = None) -> float:
        """Score below which a class is not told from noise, a floor of the tags.

        It is a quarter of the score that each name would have if all were equally likely,
        1 / (4 C), where C counts classes and background. docs/thresholds.md says how it was
        chosen. Scores that are no softmax have no such level: it is 0.

        Args:
            names: Of :meth:`names_for`; the tagger's own if None.
        """
        if getattr(self.head, 'scoring', 'softmax') != 'softmax' or (
            self.head.calibration is not None
        ):
            return 0.0
        if isinstance(names, OpenNames):
            return 0.25 / (names.count + len(names.background))
        return 0.25 / len((self.names if names is None else names).text)

    @staticmethod
    def _fill_unreadable(sample: DataSample, count: int) -> None:
        sample.set_pred_score(torch.zeros(count)).set_pred_label(torch.zeros(0, dtype=torch.long))
        sample.set_gt_score(torch.full((count,), -1.0))
        if 'gt_label_difficult' in sample:  # with which VOC's metrics would overwrite the -1
            sample.set_metainfo({'gt_label_difficult': []})
        sample.set_field([], 'tags')


def check_normalisation(encoder: CLIPEncoder, data_preprocessor: nn.Module) -> None:
    """Give the data preprocessor the encoder's normalisation; refuse another one.

    Raises:
        ValueError: Images are not normalised as in the encoder's training.
    """
    if isinstance(data_preprocessor, CLIPDataPreprocessor):
        data_preprocessor.complete(encoder.mean, encoder.std)
    for key in ('mean', 'std'):
        value = getattr(data_preprocessor, key, None)
        wanted = torch.tensor(getattr(encoder, key))
        if value is None or not torch.allclose(value.flatten().cpu(), wanted, atol=1e-4):
            raise ValueError(
                f'{encoder.name} was trained with {key}={tuple(wanted.tolist())}, but the '
                f'data preprocessor has {None if value is None else value.flatten().tolist()}'
            )


def check_layers(part: str, layers: Sequence[int], encoder: CLIPEncoder) -> None:
    """Refuse layers of attention that the encoder does not have.

    Args:
        part: The part that needs them, for the message.
        layers: From 0.
        encoder: The encoder.

    Raises:
        ValueError: A layer is out of range.
    """
    if layers and not encoder.num_blocks:
        raise ValueError(f'{part} needs attention maps, but {encoder.name} is convolutional')
    for layer in layers:
        if not 0 <= layer < encoder.num_blocks:
            raise ValueError(
                f'{part} needs the attention of layer {layer}, but {encoder.name} has '
                f'only layers 0 to {encoder.num_blocks - 1}'
            )


def readable_samples(samples: Sequence[BaseDataElement]) -> list[int]:
    """Indices of the samples whose image could be read."""
    return [index for index, sample in enumerate(samples) if sample.get('load_error') is None]


def _encoder_may_be_missing(module: nn.Module, incompatible: Any) -> None:
    """The frozen encoder has its own weights: a checkpoint of the head is complete without."""
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if 'encoder.clip.' not in key
    ]


@contextmanager
def naming_images(samples: Sequence[BaseDataElement]) -> Iterator[None]:
    """Put the paths of a batch's images, where known, before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        paths = ', '.join(
            str(sample.img_path) for sample in samples if sample.get('img_path') is not None
        )
        if not paths:
            raise
        raise ValueError(f'{paths}: {error}') from error


def group_by_size(images: Sequence[Tensor] | Tensor) -> list[list[int]]:
    """Indices of the images of each size, in the order of their first image."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[tuple(image.shape)].append(index)
    return list(groups.values())
