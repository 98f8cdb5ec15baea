"""Segmentation straight from dense features: windows, words, post-processing; with tags or not."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...images import PatchGrid
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..precision import full_precision
from ..taggers.heads import relative_threshold
from ..taggers.tagger import TagCLIP, check_normalisation, naming_images
from .base import TAG_SOURCES, TrainingFreeSegmentor, build, check_sample, sample_tags
from .text_head import SegTextHead
from .windows import WholeImage, resize


@MODELS.register_module()
class DirectSegmentor(TrainingFreeSegmentor):
    """A training-free segmentor: every patch is compared with words (MaskCLIP and its successors).

    Cosines of the patches are resized and averaged over windows, resized to the
    image, refined, and become labels by the text head. With ``tags``, only the
    classes that the image is tagged with are looked for, and the background:
    classify, then segment. The cosines of all words are held at the original
    image's size.

    Args:
        encoder: Config of the frozen encoder; its last block decides what the
            patches say.
        head: Config of the :class:`SegTextHead`.
        windows: Config of :class:`SlidingWindows`; :class:`WholeImage` if None.
        views: Config of :class:`ImageViews`, in which each window is shown, or
            None.
        patch_processor: Config of what refines the patches' cosines
            (:class:`MaskCLIPRefinement`), or None; only for the whole image, and
            not with ``views``.
        logit_processor: Config of what refines the cosines (:class:`PAMR`), or
            None. It and the next need the original picture: put
            ``mmtagclip.KeepImage`` in the pipeline and ``'original'`` among
            PackSegInputs' ``meta_keys``.
        post_processor: Config of what refines the labels' probabilities
            (:class:`DenseCRF`, :class:`PAMR`), or None.
        label_processor: Config of what is done to the labels at the very last
            (:class:`LabelClosing`), or None.
        tags: Where tags come from: ``'own'`` (the tagger), ``'given'`` (the
            sample's ``tag_labels``, see ``mmtagclip.LoadTags``),
            ``'ground_truth'`` (the sample's mask: the upper bound), or None to
            look for all classes.
        tagger: Config of the tagger for ``tags='own'``, for the same classes in
            the same order; it sees the original picture, on the patch grid. It
            shares the segmentor's encoder where it names none.
        max_side: Pictures with a longer side, in pixels, are shrunk for the
            tagger.
        with_probabilities: Whether results carry ``probabilities`` ``(P, H, W)``,
            those of the labels that were looked for, and ``plane_labels``, which
            these are.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        pretrained: Of no effect, but frameworks set it.
        train_cfg: Of no effect, but frameworks set it.
        test_cfg: Of no effect, but frameworks set it.
        init_cfg: Of no effect.

    Raises:
        ValueError: Options that do not belong together, a tagger for another
            number of classes, or images normalised otherwise than the encoder
            was trained with.
    """

    text: Tensor

    def __init__(
        self,
        encoder: ConfigDict | dict | CLIPEncoder,
        head: ConfigDict | dict | SegTextHead,
        windows: ConfigDict | dict | nn.Module | None = None,
        views: ConfigDict | dict | nn.Module | None = None,
        patch_processor: ConfigDict | dict | nn.Module | None = None,
        logit_processor: ConfigDict | dict | nn.Module | None = None,
        post_processor: ConfigDict | dict | nn.Module | None = None,
        label_processor: ConfigDict | dict | nn.Module | None = None,
        tags: str | None = None,
        tagger: ConfigDict | dict | TagCLIP | None = None,
        max_side: int = 1344,
        with_probabilities: bool = False,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        pretrained: Any = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: dict | None = None,
    ) -> None:
        text_head: SegTextHead = build(head)
        super().__init__(
            text_head.vocabulary.names, text_head.with_background, data_preprocessor, init_cfg
        )
        if tags is not None and tags not in TAG_SOURCES:
            raise ValueError(f'tags must be one of {", ".join(TAG_SOURCES)}, or None, not {tags!r}')
        if (tags == 'own') != (tagger is not None):
            raise ValueError("a tagger belongs to tags='own', and to nothing else")
        self.tags = tags
        self.with_probabilities = with_probabilities
        self.head = text_head
        self.encoder: CLIPEncoder = build(encoder)
        check_normalisation(self.encoder, self.data_preprocessor)
        self.windows = WholeImage(self.encoder.patch_size) if windows is None else build(windows)
        self.views = build(views)
        self.patch_processor = build(patch_processor)
        if self.patch_processor is not None and self.views is not None:
            raise ValueError(
                'a patch_processor refines the cosines of one view, which are not to '
                'be averaged with others: leave out views'
            )
        if self.patch_processor is not None and not isinstance(self.windows, WholeImage):
            raise ValueError(
                'a patch_processor looks at all patches of an image together: it '
                'needs windows of the type WholeImage'
            )
        if text_head.background_threshold and getattr(self.patch_processor, 'key_smoothing', 0):
            raise ValueError(
                'key_smoothing leaves no probabilities for a background_threshold: set it to 0'
            )
        self.logit_processor = build(logit_processor)
        self.post_processor = build(post_processor)
        self.label_processor = build(label_processor)
        self.tagger: TagCLIP | None = (
            MODELS.build({'encoder': self.encoder, **tagger})
            if isinstance(tagger, dict)
            else tagger
        )
        if self.tagger is not None:
            if len(self.tagger.vocabulary) != len(text_head.vocabulary):
                raise ValueError(
                    f'the tagger has {len(self.tagger.vocabulary)} classes, the head '
                    f'{len(text_head.vocabulary)}'
                )
            self.tagger_grid = PatchGrid(self.tagger.encoder.patch_size, max_side=max_side)
        self.register_buffer('text', text_head.text(self.encoder), persistent=False)

    def predict(
        self, inputs: Sequence[Tensor] | Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Segment images.

        Each data sample gets ``pred_sem_seg`` ``(1, H, W)`` at the size of the
        original image and, with ``tags``, ``tag_labels`` and ``tags`` (their
        names), and what the options ask for. An image that could not be read
        (``load_error``) gets none of these.

        Args:
            inputs: Normalised images ``(3, H', W')``.
            data_samples: One an image.

        Raises:
            ValueError: A sample lacks what the options need, its mask has
                another size than its image, or the image is smaller than a
                window; the message names the image.
        """
        if data_samples is None:
            data_samples = [
                SegDataSample(metainfo={'ori_shape': tuple(image.shape[1:])}) for image in inputs
            ]
        refines = self.logit_processor is not None or self.post_processor is not None
        for image, sample in zip(inputs, data_samples, strict=True):
            if sample.get('load_error') is not None:
                continue
            check_sample(sample, self.tags, refines or self.tags == 'own')
            with naming_images([sample]):
                labels = self.find_tags(sample)
                planes, plane_labels = self.probabilities(
                    image, tuple(sample.ori_shape[:2]), labels, sample.get('original')
                )
            label = self.labels(planes, plane_labels)
            sample.set_data({'pred_sem_seg': PixelData(data=label[None])})
            if self.with_probabilities:
                sample.set_data({'probabilities': PixelData(data=planes)})
                sample.set_field(plane_labels, 'plane_labels', field_type='metainfo')
            if labels is not None:
                names = self.head.vocabulary.names
                sample.set_field(labels, 'tag_labels', field_type='metainfo')
                sample.set_field([names[c] for c in labels], 'tags', field_type='metainfo')
        return data_samples

    def find_tags(self, sample: SegDataSample) -> list[int] | None:
        """The classes to look for in an image, in order; None for all."""
        if self.tags is None:
            return None
        if self.tagger is None:
            return sample_tags(sample, self.tags, len(self.head.vocabulary), self.with_background)
        fitted = self.tagger_grid.resize(sample.original, sample.get('img_path', 'an image'))
        image = torch.from_numpy(fitted.copy()).permute(2, 0, 1).to(self.text.device)
        scores = self.tagger.score([self.tagger.data_preprocessor.normalise(image)])[0].scores[0]
        return relative_threshold(scores, self.tagger.head.threshold).nonzero().flatten().tolist()

    def segment(
        self,
        image: Tensor,
        size: tuple[int, int],
        tags: Sequence[int] | None = None,
        original: Any = None,
    ) -> Tensor:
        """Labels ``(H, W)`` of one image; arguments as those of :meth:`probabilities`."""
        return self.labels(*self.probabilities(image, size, tags, original))

    def labels(self, planes: Tensor, labels: Sequence[int]) -> Tensor:
        """Label of each pixel ``(H, W)``; arguments as those of :meth:`SegTextHead.labels`."""
        label = self.head.labels(planes, labels)
        return label if self.label_processor is None else self.label_processor(label)

    @torch.no_grad()
    @full_precision
    def probabilities(
        self,
        image: Tensor,
        size: tuple[int, int],
        tags: Sequence[int] | None = None,
        original: Any = None,
    ) -> tuple[Tensor, list[int]]:
        """Probabilities of one image's labels.

        Args:
            image: ``(3, H', W')``, normalised.
            size: ``(H, W)`` of the original image, in pixels.
            tags: Classes to look for; all if None.
            original: ``(H, W, 3)`` uint8 BGR, for the processors.

        Returns:
            ``(P, H, W)``, and the P labels: all that were looked for.

        Raises:
            ValueError: The features are not finite, or the image does not fit
                the windows.
        """
        rows = self.head.rows(tags)
        if not rows:
            return image.new_zeros(0, *size), []
        cosines = self.windows(image, lambda crops: self.score(crops, self.text[rows]))
        if not torch.isfinite(cosines).all():
            raise ValueError(
                'the features are not finite: the weights are damaged, or the dtype '
                'is too narrow for them (try float32)'
            )
        cosines = resize(cosines[None], size)[0]
        if self.logit_processor is not None:
            cosines = self.logit_processor(cosines, original)
        planes, labels = self.head.probabilities(cosines, rows)
        if self.post_processor is not None:
            planes = self.post_processor(planes, original)
        return self.head.rule_out(planes), labels

    def score(self, crops: Tensor, text: Tensor) -> Tensor:
        """The same as :meth:`cosines`, in all views."""
        if self.views is None:
            return self.cosines(crops, text)
        return self.views(crops, lambda view: self.cosines(view, text))

    def cosines(self, crops: Tensor, text: Tensor) -> Tensor:
        """Cosines ``(n, K, h, w)`` of the patches of ``(n, 3, H, W)`` with ``(K, D)``, refined."""
        features = self.encoder(crops)
        cosines = F.linear(features.patches, text)
        if self.patch_processor is not None:
            cosines = self.patch_processor(cosines, features, self.encoder)
        return cosines.transpose(1, 2).unflatten(2, features.grid)

    def _forward(self, inputs: Any, data_samples: Any = None) -> Any:
        return [self.segment(image, tuple(image.shape[1:])) for image in inputs]

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Patch features ``(B, N, D)`` of normalised images of one size."""
        return self.encoder(inputs).patches

    def encode_decode(self, inputs: Any, batch_data_samples: Any) -> Any:
        """Labels of each image, all classes looked for."""
        return self._forward(inputs, batch_data_samples)
