"""From images to results, as mmengine's inferencers do it."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
import functools
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import nn
from tqdm import tqdm

from ..clip.downloads import settle_downloads
from ..devices import check_device
from ..files import write_whole
from ..frameworks import import_scope
from ..models import AutoNames, GaussianClassifier, TagCLIP, TagRule
from ..records import encode_line
from ..registry import MODELS
from .call import Call, NameSource, checks_options, takes, typed_names
from .demo_model import are_demo_scenes, demo_notice, is_demo_model
from .inputs import ImageInput, list_images, read_ahead
from .model_zoo import load_config
from .results import SegResult, TagResult
from .weights import class_meta, load_trained

# The transforms that read files: an inferencer reads its images itself.
READERS = ('LoadImage', 'LoadImageFromFile', 'LoadAnnotations')
DEFAULT_MAX_SIDE = 1024

Result = TypeVar('Result', TagResult, SegResult)


@dataclass
class LoadedImage:
    """An image in the pipeline.

    Attributes:
        source: Where it came from.
        pixels: ``(H, W, 3)`` uint8 RGB; None if it could not be read.
        data: What the pipeline made of it.
        error: Why it could not be read.
    """

    source: ImageInput
    pixels: np.ndarray | None = None
    data: dict | None = None
    error: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` in pixels."""
        return (0, 0) if self.pixels is None else self.pixels.shape[:2]  # type: ignore


class ImageInferencer(BaseInferencer, Generic[Result]):
    """What both inferencers have in common.

    Unlike other inferencers it does not change mmengine's default scope, and it
    reads a folder batch by batch: see :meth:`stream`.

    Args:
        model: Path of a config, name of a bundled model (see ``mmtagclip
            models``), config, dict with the key ``model``, or a built model.
        weights: Checkpoint of a model that was trained; or of what was fitted to images for
            the class names and the encoder of the model: the classifier of
            ``mmtagclip.FitLoop`` (PIAA), or the calibration of
            :func:`mmtagclip.apis.calibrate`. The config names the encoder's weights.
        device: ``'cpu'``, ``'cuda:0'`` and so on; by default cuda if available
            (a built model stays where it is).
        max_side: Images with a longer side are shrunk to it for the encoder, in
            pixels; the config's if None, or 1024 where there is none.
        show_progress: Whether to show a progress bar where there are several
            images and the output is a terminal.
        classes: What to find in calls that name no classes: see :func:`typed_names`.
            The model's own classes if None.
        background: Names that compete with the classes; the same.
        encoder: Another CLIP in place of the config's, such as ``'ViT-B-16-SigLIP2:webli'``;
            see :func:`mmtagclip.apis.model_zoo.set_encoder`.
        download: Whether weights that are not on this machine may be downloaded.
        trust_checkpoint: Whether the checkpoint of a trained model is unpickled, which
            runs what code it brings; otherwise only its weights, numbers and strings
            are read.

    Attributes:
        model: The model.
        warns: Whether to warn when the bundled demo model is given other images than the
            demo's; False once that was done.

    Raises:
        FileNotFoundError: No config of this name, no such checkpoint, or weights that
            would have to be downloaded.
        TypeError: A model of another kind.
        ValueError: There is no such device; or ``weights`` for a model that takes none, of
            another model, or fitted for other class names or another encoder; or a trained
            model without weights, without class names or with names in the call.
    """

    # The models that it runs, and those of them that take names and thresholds at the call.
    model_class: type[nn.Module]
    open_class: type[nn.Module]
    otherwise: str
    real_model: str  # to name beside the demo's
    packing: ConfigDict
    name_options: tuple[str, ...] = ('classes', 'background')  # of a call: they make its names
    model: Any
    warns = True
    _visualizer: Any = None

    @checks_options
    def __init__(
        self,
        model: Any,
        weights: str | Path | None = None,
        device: str | None = None,
        max_side: int | None = None,
        show_progress: bool = True,
        *,
        classes: NameSource | None = None,
        background: NameSource | None = None,
        encoder: str | None = None,
        download: bool = False,
        trust_checkpoint: bool = False,
    ) -> None:
        self._names = _typed(classes, background)
        check_device(device)
        self._built = model if isinstance(model, nn.Module) else None
        self.max_side = max_side
        if self._built is not None and encoder is not None:
            raise ValueError('a built model has its encoder: leave out encoder')
        self._trust = trust_checkpoint
        config = (
            Config({'model': {}})
            if self._built is not None
            else load_config(model, encoder=encoder)
        )
        settle_downloads(config.model, download)
        scope = self._config_of(model, config).get('default_scope', 'mmengine')
        import_scope(scope)
        with DefaultScope.overwrite_default_scope(scope):
            super().__init__(config, weights, device, scope, show_progress)
        if self._built is not None:
            if device is not None:
                self.model.to(device)
            self.model.eval()
        if self._names:
            self.names_for()  # refuses bad names now

    @takes(Call)
    def __call__(self, call: Call) -> list[Result]:
        """Run on images.

        Returns:
            One result per image, in order.

        Raises:
            FileNotFoundError: An image, images in a folder, or a file of names are
                not there.
            TypeError: An unknown option, or names of another kind.
            ValueError: An image can't be read, or bad names or options.
        """
        return list(self._stream(call))

    @takes(Call)
    def stream(self, call: Call) -> Iterator[Result]:
        """The same, one result after the other, for folders that do not fit into memory.

        Bad names and options are refused before the first image is read.
        """
        return self._stream(call)

    def names_for(
        self,
        classes: NameSource | AutoNames | None = None,
        background: NameSource | None = None,
        **more: Any,
    ) -> Any:
        """The names of a call, and their text features.

        Args:
            classes: See :meth:`__call__`.
            background: The same.
            **more: The others of :attr:`name_options`.

        Returns:
            What the model's own ``names_for`` returns; None for a segmentor whose
            classes are fixed.

        Raises:
            ValueError: Names for a model whose classes are fixed, or bad ones.
        """
        for classifier in _classifiers(self.model):
            classifier.check_fitted()
        given = _typed(classes, background)
        names = {**self._names, **given}
        if isinstance(names.get('classes'), AutoNames):
            if not isinstance(self.model, TagCLIP):
                raise ValueError(
                    'names are chosen for each image by taggers only: name the classes of masks'
                )
        elif 'classes' in given and 'background' not in given and 'background' in names:
            names['background'] = names['background'].without(names['classes'])
        said = {key: value for key, value in more.items() if value is not None}
        if 'hide' in said:
            said['hide'] = typed_names(said['hide']).names
        if self._is_open:
            return self.model.names_for(**names, **said)
        if names or said:
            raise self._fixed({**names, **said})
        return None

    @property
    def _is_open(self) -> bool:
        """Whether the model is one of ours, which takes names and thresholds at the call."""
        return isinstance(self.model, self.open_class)

    def _rule(self, names: Any, call: Any) -> TagRule | None:
        """The rule of the tags of a call; bad options are refused before an image is read."""
        if self._is_open:
            return self.rule_of(names, **call.rule)
        return self.trained_rule(call)

    def trained_rule(self, call: Any) -> TagRule | None:
        """The same for a trained model."""
        if call.rule:
            raise self._fixed(call.rule)
        return None

    @functools.cached_property
    def is_demo_model(self) -> bool:
        """Whether the model has the encoder of the bundled demo, see :func:`is_demo_model`."""
        return is_demo_model(self.model)

    def _fixed(self, given: Mapping[str, Any]) -> ValueError:
        return ValueError(
            f'{type(self.model).__name__} takes no {", ".join(sorted(given))}: '
            'it is a trained model with fixed classes'
        )

    def _stream(self, call: Any) -> Iterator[Result]:
        if call.batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, not {call.batch_size}')
        names = self.names_for(**{key: getattr(call, key) for key in self.name_options})
        rule = self._rule(names, call)
        images = list_images(call.inputs, call.channel_order)
        if self.warns and self.is_demo_model and not are_demo_scenes(images):
            self.warns = False
            warnings.warn(demo_notice(f'{type(self).__name__}({self.real_model!r})'), stacklevel=4)
        batches = self.preprocess(images, call.batch_size, call.on_error)
        return self._run(batches, len(images), names, rule, call)

    def _run(
        self,
        batches: Iterator[list[LoadedImage]],
        total: int,
        names: Any,
        rule: TagRule | None,
        call: Any,
    ) -> Iterator[Result]:
        silent = None if self.show_progress and total > 1 else True
        with tqdm(total=total, unit='image', disable=silent) as progress:
            for batch in batches:
                results = self.forward(batch, names, **self._predict_options(rule, call))
                results = [self.with_options(result, rule, call) for result in results]
                drawn = self.visualize(
                    batch, results, call.show, call.wait_time, call.out_dir, call.vis_dir
                )
                yield from self.postprocess(results, drawn, call)
                progress.update(len(batch))

    def _predict_options(self, rule: TagRule | None, call: Any) -> dict[str, Any]:
        """Options of a call that the model's ``predict`` takes."""
        return {} if rule is None or not self._is_open else dict(vars(rule))

    def preprocess(
        self,
        inputs: Sequence[ImageInput],
        batch_size: int = 1,
        on_error: str | None = None,
    ) -> Iterator[list[LoadedImage]]:
        """Bring images through the pipeline batch by batch; see :func:`read_ahead`."""
        on_error = self.on_error if on_error is None else on_error
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        return read_ahead(inputs, batch_size, lambda image: self.load(image, on_error))

    def load(self, image: ImageInput, on_error: str = 'raise') -> LoadedImage:
        """Read one image and bring it through the pipeline.

        Args:
            image: The image.
            on_error: ``'raise'`` or ``'skip'``.

        Raises:
            ValueError: It can't be read, and is not to be skipped.
        """
        loaded = LoadedImage(image)
        try:
            loaded.pixels = image.read(self.file_max_side)
            size = loaded.pixels.shape[:2]
            loaded.data = self.pipeline(
                {
                    'img': np.ascontiguousarray(loaded.pixels[..., ::-1]),
                    'img_path': image.name,
                    'img_shape': size,
                    'ori_shape': size,
                    'seg_fields': [],
                }
            )
        except (ValueError, OSError) as error:
            if on_error == 'raise':
                raise
            loaded = LoadedImage(image, error=str(error))
        return loaded

    @torch.no_grad()
    def forward(self, inputs: list[LoadedImage], names: Any = None, **options: Any) -> list[Result]:
        """Results of a batch.

        Args:
            inputs: The batch.
            names: What :meth:`names_for` returned; the model's own if None.
            **options: Of the model's ``predict``.
        """
        if names is None:
            names = self.names_for()
        readable = [image.data for image in inputs if image.data is not None]
        samples = iter(self._predict(readable, names, options) if readable else ())
        return [
            self.unreadable(names, image)
            if image.data is None
            else self.result(names, image, next(samples))
            for image in inputs
        ]

    def _predict(self, data: list[dict], names: Any, options: dict[str, Any]) -> list:
        if self._is_open:
            batch = self.model.data_preprocessor(pseudo_collate(data), False)
            return self.model.predict(**batch, names=names, **options)
        # The frameworks' models refuse or pad images of different sizes in one batch.
        samples: dict[int, Any] = {}
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(data):
            groups.setdefault(tuple(one['inputs'].shape), []).append(index)
        for group in groups.values():
            batch = pseudo_collate([data[index] for index in group])
            samples.update(zip(group, self.model.test_step(batch), strict=True))
        return [samples[index] for index in range(len(data))]

    def visualize(
        self,
        inputs: list[LoadedImage],
        preds: list,
        show: bool = False,  # type: ignore
        wait_time: float = 0,
        out_dir: str | Path | None = None,
        vis_dir: str | Path | None = None,
    ) -> list[np.ndarray | None]:
        """Draw the results of a batch, if they are to be shown or written."""
        if not show and out_dir is None and vis_dir is None:
            return []
        if vis_dir is None and out_dir is not None:
            vis_dir = Path(out_dir, 'vis')
        drawn: list[np.ndarray | None] = []
        for image, result in zip(inputs, preds, strict=True):
            if out_dir is not None:
                self.write(Path(out_dir, 'pred', image.source.stem), result)
            if image.pixels is None:
                drawn.append(None)
                continue
            out_file = None if vis_dir is None else Path(vis_dir, f'{image.source.stem}.png')
            drawn.append(self.picture(image.pixels, result, out_file, show, wait_time))
        return drawn

    def picture(
        self,
        pixels: np.ndarray,
        result: Any,
        out_file: Path | None = None,
        show: bool = False,
        wait_time: float = 0,
    ) -> np.ndarray:
        """Draw one result.

        Args:
            pixels: The image, ``(H, W, 3)`` uint8 RGB.
            result: Its result.
            out_file: File to write the drawing to.
            show: Whether to open a window.
            wait_time: Seconds until it closes; 0 for a key press.

        Returns:
            ``(H', W', 3)`` uint8 RGB.
        """
        if out_file is not None:
            out_file.parent.mkdir(parents=True, exist_ok=True)
        self.prepare_visualizer(result)
        return self.visualizer.add_datasample(
            result.image,
            pixels,
            result.to_datasample(),
            show=show,
            wait_time=wait_time,
            out_file=None if out_file is None else str(out_file),
        )

    def postprocess(self, preds: list, visualization: list, call: Any = None) -> list:
        """Results as they are returned."""
        if call is not None and call.return_datasamples:
            return [result.to_datasample() for result in preds]
        return preds

    def write(self, path: Path, result: Any) -> None:
        """Write a result as JSON.

        Args:
            path: The file, without its ending.
            result: The result.
        """
        write_whole(f'{path}.json', encode_line(result.to_json()))

    @abstractmethod
    def rule_of(self, names: Any, **options: Any) -> TagRule | None:
        """The rule of the tags of a call; None for a segmentor without a tagger.

        Args:
            names: What :meth:`names_for` returned.
            **options: See :meth:`mmtagclip.models.TagRule.but`; the model's if left out, and
                for ``min_score`` else :meth:`mmtagclip.models.TagCLIP.noise_level`.

        Raises:
            TypeError: An option of another type.
            ValueError: An option is out of range, or for a segmentor without a tagger.
        """

    @abstractmethod
    def with_options(self, result: Result, rule: TagRule | None, call: Any) -> Result:
        """A result that knows the options of its call."""

    @abstractmethod
    def label_names(self, names: Any) -> tuple[str, ...]:
        """``classes`` of the results of a call with these names."""

    @abstractmethod
    def result(self, names: Any, image: LoadedImage, sample: Any) -> Result:
        """Result of one image from the names of the call and its data sample."""

    @abstractmethod
    def unreadable(self, names: Any, image: LoadedImage) -> Result:
        """Result of an image that could not be read."""

    def prepare_visualizer(self, result: Any) -> None:
        """Tell the visualizer what it has to know of a result."""

    def _init_model(self, cfg: Any, weights: Any, device: Any = 'cpu') -> nn.Module:
        model = self._built
        if model is None:
            model = super()._init_model(cfg, None, device)
        if not isinstance(model, self.model_class):
            raise TypeError(
                f'{type(self).__name__} does not run a {type(model).__name__}: {self.otherwise}'
            )
        if not isinstance(model, self.open_class):
            self._init_trained(model, cfg, weights)
        elif weights is not None:
            tagger: Any = getattr(model, 'tagger', model)
            if tagger is None:
                raise ValueError(
                    f'{weights} was given as what was fitted for a tagger, but this '
                    f"{type(model).__name__} has none; give its encoder's weights as the "
                    "config's checkpoint"
                )
            tagger.load_fitted(weights)
        return model

    def _init_trained(self, model: Any, cfg: Any, weights: str | Path | None) -> None:
        """Load the weights of a trained model, and learn its classes."""
        self.check_trained(model)
        said = getattr(model, 'dataset_meta', None) or getattr(model, '_dataset_meta', None)
        if weights is not None:
            device = next(model.parameters()).device
            said = load_trained(model, weights, self._trust) or said
            model.to(device)
        elif self._built is None:
            raise ValueError(
                f'{type(model).__name__} is a trained model: give its checkpoint, '
                "weights='iter_20000.pth' in Python, --checkpoint iter_20000.pth on the command "
                'line'
            )
        if self._built is None:
            revert_sync_batchnorm(model)
        model.dataset_meta = class_meta(said, self._config_of(model, cfg), model)

    def check_trained(self, model: nn.Module) -> None:
        """Refuse a trained model whose answers are of another kind."""

    def _config_of(self, model: Any, cfg: Any) -> Any:
        """The config of a model; the frameworks attach it to those that they build."""
        if self._built is None or isinstance(model, self.open_class):
            return cfg
        return getattr(model, 'cfg', None) or getattr(model, '_config', None) or cfg

    def _load_weights_to_model(self, model: nn.Module, checkpoint: Any, cfg: Any) -> None:
        """There is nothing to load here: CLIP has its weights already."""

    def _init_pipeline(self, cfg: Any) -> Compose:
        cfg = self._config_of(self.model, cfg)
        steps = cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline')
        if steps is None:
            steps = self.default_steps()
        names = [_name(step) for step in steps]
        reader = dict(steps[names.index('LoadImage')]) if 'LoadImage' in names else {}
        self.on_error = reader.get('on_error', 'raise')
        self.file_max_side = reader.get('max_side', 16384)
        kept = [
            ConfigDict(step) for step, name in zip(steps, names, strict=True) if name not in READERS
        ]
        for step in kept:
            if _name(step) == 'ResizeToPatchGrid' and self._is_open:
                step.setdefault('patch_size', self.model.encoder.patch_size)
        if self.max_side is not None:
            resizing = [step for step in kept if _name(step) == 'ResizeToPatchGrid']
            if not resizing:
                raise ValueError(
                    f'max_side has no effect on this {type(self.model).__name__}, whose config '
                    'says how images are resized: leave it out'
                )
            for step in resizing:
                step['max_side'] = self.max_side
        return Compose(kept)

    def default_steps(self) -> list[ConfigDict]:
        """The pipeline of a model whose config has none."""
        return [
            ConfigDict(type='mmtagclip.KeepImage'),
            ConfigDict(type='mmtagclip.ResizeToPatchGrid', max_side=DEFAULT_MAX_SIDE),
            self.packing,
        ]

    def _init_collate(self, cfg: Any) -> Any:
        return pseudo_collate

    def _init_visualizer(self, cfg: Any) -> None:
        """There is none before something is drawn: it takes a second of importing matplotlib."""

    @property
    def visualizer(self) -> Any:
        """What draws the results, a visualizer of mmengine; made when it is first needed."""
        if self._visualizer is None:
            self._visualizer = self.make_visualizer()
        return self._visualizer

    @visualizer.setter
    def visualizer(self, visualizer: Any) -> None:  # mmengine's constructor sets it
        self._visualizer = visualizer

    @abstractmethod
    def make_visualizer(self) -> Any:
        """What draws the results."""


def _typed(classes: Any, background: NameSource | None) -> dict[str, Any]:
    """The names that were given."""
    given = {'classes': classes, 'background': background}
    return {
        key: names if isinstance(names, AutoNames) else typed_names(names)
        for key, names in given.items()
        if names is not None
    }


def _classifiers(model: nn.Module) -> list[GaussianClassifier]:
    """The fitted part of a model: one, or none."""
    return [part for part in model.modules() if isinstance(part, GaussianClassifier)]


def _name(step: Any) -> str:
    kind = step['type']
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__


def inferencer_class(config: Config) -> type[ImageInferencer]:
    """Which inferencer runs the model of a config: the segmentors' or the taggers'."""
    from .tag_inferencer import TagInferencer

    model, scope = MODELS.get(config.model.type), config.get('default_scope', 'mmengine')
    if model is None:  # a framework's own, which must be imported to be found
        import_scope(scope)
        with MODELS.switch_scope_and_registry(scope) as registry:
            model = registry.get(config.model.type)
    if not isinstance(model, type) or issubclass(model, TagInferencer.model_class):
        return TagInferencer
    from .seg_inferencer import SegInferencer  # imports MMSegmentation

    return SegInferencer if issubclass(model, SegInferencer.model_class) else TagInferencer
