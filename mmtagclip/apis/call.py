"""The options of a call of an inferencer, each said once."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from ..clip import Vocabulary, parse_names

# Class names as a call takes them; see typed_names.
NameSource = (
    str | Path | Iterable[str | Sequence[str]] | Mapping[str, str | Sequence[str]] | Vocabulary
)

P = ParamSpec('P')
S = TypeVar('S')
C = TypeVar('C')
R = TypeVar('R')


@dataclass(frozen=True)
class Call:
    """Images and options of one call.

    Attributes:
        inputs: The path of an image, of a folder (every image below it) or a
            pattern (``'photos/*.jpg'``), a PIL image, an array ``(H, W, 3)``
            uint8 RGB, or an iterable of these.
        classes: What to find, in this call: see :func:`typed_names`. The model's
            own classes if None.
        background: Names that compete with the classes but are never reported; the
            same kinds. The model's own if None, without those that are now classes.
        threshold: ``k`` of the tags' relative threshold, in [0, 1]; the model's if
            None.
        on_error: ``'raise'``, or ``'skip'`` images that can't be read; as the
            config's LoadImage says if None.
        out_dir: Folder for drawings (``vis/``) and results (``pred/``).
        vis_dir: Folder for drawings alone.
        show: Whether to open a window.
        wait_time: Seconds until the window closes; 0 for a key press.
        batch_size: Images that are read and encoded together; only those of
            equal size are one batch for the encoder.
        return_datasamples: Whether to return OpenMMLab's data samples.
    """

    inputs: Any
    _: KW_ONLY
    classes: NameSource | None = None
    background: NameSource | None = None
    threshold: float | None = None
    on_error: Literal['raise', 'skip'] | None = None
    out_dir: str | Path | None = None
    vis_dir: str | Path | None = None
    show: bool = False
    wait_time: float = 0
    batch_size: int = 1
    return_datasamples: bool = False


@dataclass(frozen=True)
class TagCall(Call):
    """Images and options of one call of a tagger: those of :class:`Call` and these.

    Attributes:
        score_maps: Whether results have score maps.
    """

    _: KW_ONLY
    score_maps: bool = False


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
        @functools.wraps(method)
        def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, options(*args, **kwargs))

        own = inspect.signature(method)
        first, *_ = own.parameters.values()
        parameters = inspect.signature(options).parameters.values()
        call.__signature__ = own.replace(parameters=[first, *parameters])  # type: ignore
        call.__doc__ = '\n\n'.join([inspect.getdoc(method) or '', _arguments(options)])
        return call

    return decorate


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
