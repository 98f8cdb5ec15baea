"""The options of a call of an inferencer, each said once."""

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

from ..clip import Vocabulary, parse_names
from ..models.taggers.thresholds import ThresholdSource

if TYPE_CHECKING:  # checking options needs no torch
    from ..models import AutoNames

# Class names as a call takes them; see typed_names.
NameSource = (
    str | Path | Iterable[str | Sequence[str]] | Mapping[str, str | Sequence[str]] | Vocabulary
)

# What other programs call an option, in lower case and without underscores.
OTHER_NAMES = {
    other: name
    for name, others in {
        'classes': 'names categories classnames prompts prompt texts text queries '
        'candidatelabels vocabulary textprompt',
        'background': 'negatives bg',
        'threshold': 'thr thresh',
        'min_score': 'conf confidence scorethr scorethreshold boxthreshold',
        'top': 'topk maxtags limit',
        'out_dir': 'out output outputdir savedir',
        'batch_size': 'bs batch',
        'max_side': 'imgsz imagesize size',
        'weights': 'checkpoint ckpt',
        'score_maps': 'heatmaps',
        'all_scores': 'returnscores',
        'channel_order': 'bgr rgb',
        'show_progress': 'progress verbose pbar',
    }.items()
    for other in others.split()
}

P = ParamSpec('P')
S = TypeVar('S')
C = TypeVar('C')
R = TypeVar('R')


@dataclass(frozen=True)
class Call:
    """Images and options of one call.

    Attributes:
        inputs: The path of an image, of a folder (every image below it) or a
            pattern (``'photos/*.jpg'``), bytes of an image file, a file opened in
            binary mode, a PIL image, an array ``(H, W, 3)`` uint8, a tensor
            ``(3, H, W)``, uint8 in [0, 255] or floating point in [0, 1], or an
            iterable of these; see :func:`mmtagclip.apis.list_images`.
        classes: What to find, in this call: see :func:`typed_names`. The model's
            own classes if None. A tagger also takes :class:`mmtagclip.models.AutoNames`, which
            chooses names for each image.
        background: Names that compete with the classes but are never reported; the
            same kinds. The model's own if None, without those that are now classes.
        threshold: ``k`` of the tags' relative threshold, in [0, 1]; the model's if
            None.
        min_score: Lowest score of a tag, in [0, 1]; 0 for none. If None, the model's, or
            else :meth:`mmtagclip.models.TagCLIP.noise_level`. An image may have no tag.
        top: Most tags of an image; the model's if None.
        thresholds: Of single classes, in place of ``threshold``: a ``.csv`` file of ``mmtagclip
            thresholds``, a file with one number per class, or a mapping; see
            :func:`mmtagclip.models.taggers.thresholds.class_thresholds`.
        all_scores: Whether JSON, records and tables hold the score of every class.
        on_error: ``'raise'``, or ``'skip'`` images that can't be read; as the
            config's LoadImage says if None.
        out_dir: Folder for drawings (``vis/``) and results (``pred/``).
        vis_dir: Folder for drawings alone.
        show: Whether to open a window.
        wait_time: Seconds until the window closes; 0 for a key press.
        batch_size: Images that are read and encoded together; only those of
            equal size are one batch for the encoder.
        channel_order: Of arrays and tensors: ``'rgb'``, or ``'bgr'`` as OpenCV reads
            images.
        return_datasamples: Whether to return OpenMMLab's data samples.
    """

    inputs: Any
    _: KW_ONLY
    classes: 'NameSource | AutoNames | None' = None
    background: NameSource | None = None
    threshold: float | None = None
    min_score: float | None = None
    top: int | None = None
    thresholds: ThresholdSource | None = None
    all_scores: bool = False
    on_error: Literal['raise', 'skip'] | None = None
    out_dir: str | Path | None = None
    vis_dir: str | Path | None = None
    show: bool = False
    wait_time: float = 0
    batch_size: int = 1
    channel_order: Literal['rgb', 'bgr'] = 'rgb'
    return_datasamples: bool = False

    @property
    def rule(self) -> dict[str, Any]:
        """The options of the tags' rule that were given; see :class:`mmtagclip.models.TagRule`."""
        keys = ('threshold', 'min_score', 'top', 'thresholds')
        options = {key: getattr(self, key) for key in keys}
        return {key: value for key, value in options.items() if value is not None}


@dataclass(frozen=True)
class TagCall(Call):
    """Images and options of one call of a tagger: those of :class:`Call` and these.

    Attributes:
        score_maps: Whether results have score maps.
        descriptions: What is said about each class: a file, JSON or YAML, with
            ``name: [descriptor, ...]``, a dict of these, or a dict with ``source`` and options;
            see :class:`mmtagclip.clip.Descriptions`. The model's if None.
        hide: Classes that compete with the others but are never tags; given as ``classes``.
        labels: What results call the classes, such as their names in another language: a file
            with one label per line in the order of the classes, a file, JSON or YAML, with
            a label for each name, or a list or dict of the same.
    """

    _: KW_ONLY
    score_maps: bool = False
    descriptions: str | Path | Mapping[str, Any] | None = None
    hide: NameSource | None = None
    labels: str | Path | Sequence[str] | Mapping[str, str] | None = None


def takes(
    options: Callable[P, C],
) -> Callable[[Callable[[S, C], R]], Callable[Concatenate[S, P], R]]:
    """Let a method be called with the fields of a dataclass and receive the dataclass.

    The method's signature, and so its typed keywords in ``help`` and editors, are those of the
    dataclass; its help ends with what the dataclass says of each.

    Args:
        options: The dataclass.
    """

    def decorate(method: Callable[[S, C], R]) -> Callable[Concatenate[S, P], R]:
        own, parameters = inspect.signature(method), inspect.signature(options).parameters
        first, *_ = own.parameters.values()

        @functools.wraps(method)
        def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
            name = type(self).__name__
            for option in kwargs.keys() - parameters.keys():
                raise unknown_option(option, parameters, f'a call of {name}', _built_with(self))
            if len(args) + ('inputs' in kwargs) != 1:
                raise TypeError(
                    f'a call of {name} takes one thing without a name, the image or the list of '
                    'images; name the options, as in classes=[...]'
                )
            return method(self, options(*args, **kwargs))

        call.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[first, *parameters.values()]
        )
        call.__doc__ = '\n\n'.join([inspect.getdoc(method) or '', _arguments(options)])
        return call

    return decorate


def checks_options(method: Callable[P, R]) -> Callable[P, R]:
    """Let a constructor say which option was meant, where it has no such option."""
    parameters = inspect.signature(method).parameters

    @functools.wraps(method)
    def build(*args: P.args, **kwargs: P.kwargs) -> R:
        for option in kwargs.keys() - parameters.keys():
            called = {'a call': inspect.signature(TagCall).parameters}
            raise unknown_option(option, parameters, type(args[0]).__name__, called)
        return method(*args, **kwargs)

    return build


def _built_with(inferencer: Any) -> dict[str, Collection[str]]:
    """The options of an object's constructor, by where to give them."""
    kind = type(inferencer)
    return {f'{kind.__name__}(...)': inspect.signature(kind).parameters}


def unknown_option(
    option: str, known: Collection[str], what: str, elsewhere: Mapping[str, Collection[str]]
) -> TypeError:
    """The error for an option that does not exist; it names the one that was probably meant.

    Args:
        option: Its name.
        known: Names of the options that exist.
        what: What has them, for the message.
        elsewhere: Names of the options of other places, by where to give them.
    """
    for place, names in elsewhere.items():
        if option in names:
            return TypeError(f'{option!r} is not an option of {what}, but of {place}')
    meant = usual_name(option)
    for place, names in {what: known, **elsewhere}.items():
        near = [meant] if meant in names else get_close_matches(option, names, 1, 0.7)
        if near:
            where = '' if names is known else f' of {place}'
            return TypeError(f'{what} has no option {option!r}: use {near[0]!r}{where}')
    options = ', '.join(name for name in known if name not in ('self', 'inputs'))
    return TypeError(f'{what} has no option {option!r}; its options are {options}')


def usual_name(option: str) -> str | None:
    """What an option of another program, such as ``top_k`` or ``--conf=0.5``, is called here."""
    word, _, _ = option.lower().partition('=')
    return OTHER_NAMES.get(re.sub('[-_]', '', word))


def _arguments(options: Any) -> str:
    """What a dataclass and its bases say of their attributes, as the arguments of a function."""
    said = [inspect.getdoc(one) or '' for one in reversed(options.__mro__) if one is not object]
    return '\n'.join(['Args:', *(text.partition('Attributes:\n')[2] for text in said)])


def typed_names(names: NameSource) -> Vocabulary:
    """Class names as a call takes them.

    Args:
        names: A built-in list (``'voc'``), the path of a file, names in one string
            (``'bell, train'``), an iterable of names or of sequences
            ``(name, synonym, ...)``, a dict from names to their synonyms, or a
            vocabulary.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Another kind, such as a set, which has no order.
        ValueError: Bad names; see :class:`mmtagclip.clip.Vocabulary`.
    """
    return parse_names(names) if isinstance(names, str) else Vocabulary.load(names)
