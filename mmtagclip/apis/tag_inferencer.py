"""From images to tags."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.config import ConfigDict
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.models.heads import MultiLabelClsHead

from ..clip import Names
from ..models import TagCLIP, TagRule
from .call import TagCall, takes
from .demo_model import REAL_TAGGER
from .inferencer import ImageInferencer, LoadedImage
from .result import KeptImage
from .results import TagResult

if TYPE_CHECKING:
    from ..visualization import TagVisualizer


class TagInferencer(ImageInferencer[TagResult]):
    """Tags of images.

    Examples:
        >>> inferencer = TagInferencer('tagclip_demo')
        >>> result, = inferencer('demo/data/JPEGImages/000040.jpg', classes=['dog', 'pizza'])
        >>> result.tags  # names and scores
    """

    model_class = BaseClassifier
    open_class = TagCLIP
    otherwise = 'for masks use SegInferencer, or mmtagclip segment'
    real_model = REAL_TAGGER
    name_options = (*ImageInferencer.name_options, 'descriptions', 'hide', 'labels')
    packing = ConfigDict(type='mmpretrain.PackInputs', meta_keys=('img_path', 'ori_shape'))

    @takes(TagCall)
    def __call__(self, call: TagCall) -> list[TagResult]:
        """Tag images; see :meth:`ImageInferencer.__call__`."""
        return list(self._stream(call))

    @takes(TagCall)
    def stream(self, call: TagCall) -> Iterator[TagResult]:
        """The same, one result after the other; see :meth:`ImageInferencer.stream`."""
        return self._stream(call)

    def _predict_options(self, rule: TagRule | None, call: TagCall) -> dict[str, Any]:
        drawn = call.show or call.out_dir is not None or call.vis_dir is not None
        maps = True if call.score_maps or drawn else None
        return {**super()._predict_options(rule, call), 'with_score_maps': maps}

    def postprocess(self, preds: list, visualization: list, call: Any = None) -> list:
        """Results as they are returned; score maps that only the picture needed are dropped."""
        if call is None or not call.score_maps:
            preds = [replace(result, score_maps=None) for result in preds]
        return super().postprocess(preds, visualization, call)

    def rule_of(self, names: Names, **options: Any) -> TagRule:
        """See :meth:`ImageInferencer.rule_of`."""
        return self.model.rule_for(names, **options)

    def trained_rule(self, call: TagCall) -> TagRule:
        """The rule of a trained head: a lowest score, or a number of tags."""
        given: dict[str, Any] = {'threshold': call.threshold, 'score_maps': call.score_maps or None}
        given['thresholds'] = call.thresholds
        refused = {key: value for key, value in given.items() if value is not None}
        if refused:
            raise self._fixed(refused)
        head = self.model.head
        own = TagRule(0.0, head.thr or 0.0, None if head.thr is not None else head.topk)
        return own.but(**call.rule)

    def check_trained(self, model: Any) -> None:
        """Refuse a classifier whose head gives each image one class."""
        head = getattr(model, 'head', None)
        if not isinstance(head, MultiLabelClsHead):
            raise TypeError(
                f'this {type(model).__name__} has a {type(head).__name__}, which gives an image '
                'one class, not tags: a head for several labels is needed, such as '
                'MultiLabelLinearClsHead'
            )

    def default_steps(self) -> list[ConfigDict]:
        """The pipeline of a model whose config has none."""
        if not self._is_open:
            raise ValueError(
                f'this {type(self.model).__name__} is without its config, which says how images '
                'are resized: pass the config and weights=, or set model.cfg'
            )
        return super().default_steps()

    def with_options(self, result: TagResult, rule: TagRule | None, call: Any) -> TagResult:
        """A result that knows the options of its call."""
        assert rule is not None  # each model here has one
        labels = result.labels
        if not self._is_open:  # the head has its own rule, without those of the call
            found = np.flatnonzero(result.scores >= rule.min_score)
            order = found[np.argsort(-result.scores[found], kind='stable')]
            labels = np.sort(order[: rule.top])
        return replace(result, labels=labels, rule=rule, all_scores=call.all_scores)

    def label_names(self, names: Names) -> tuple[str, ...]:
        """``classes`` of the results of a call with these names."""
        return names.labels if self._is_open else self.model.dataset_meta['classes']

    def result(self, names: Names, image: LoadedImage, sample: Any) -> TagResult:
        """Result of one image from its data sample."""
        maps, shares = sample.get('score_maps'), sample.get('shares')
        described = names.described if self._is_open else None
        return TagResult(
            image.source.name,
            image.size,
            tuple(sample.get('chosen_names', self.label_names(names))),
            sample.pred_score.float().cpu().numpy(),
            sample.pred_label.cpu().numpy(),
            None if maps is None else maps.cpu().numpy(),
            descriptors=None if described is None else described.descriptors,
            shares=None if shares is None else shares.cpu().numpy(),
            source=KeptImage(image.source),
        )

    def unreadable(self, names: Names, image: LoadedImage) -> TagResult:
        """Result of an image that could not be read."""
        return TagResult(
            image.source.name,
            (0, 0),
            self.label_names(names),
            np.zeros(len(self.label_names(names)), np.float32),
            np.zeros(0, np.int64),
            error=image.error,
        )

    def make_visualizer(self) -> 'TagVisualizer':
        """See :meth:`ImageInferencer.make_visualizer`."""
        from ..visualization import TagVisualizer  # here: matplotlib takes its time

        return TagVisualizer(name='tag-inferencer')
