"""The names of one call: classes, background, and the text features of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .vocabulary import Vocabulary, load_classes

Source = str | Path | Sequence[str | Sequence[str]] | Vocabulary


@dataclass(frozen=True, eq=False)
class Names:
    """The F classes to find, the background, and the text features of both.

    :meth:`mmtagclip.models.CLIPEncoder.names` makes them. They apply to one call and do not
    change the model's own names.

    Attributes:
        vocabulary: The F classes.
        background: Names that compete with the classes in the softmax and are never tags.
        text: ``(C, D)`` float32 text features of unit length, those of the classes first.
    """

    vocabulary: Vocabulary
    background: Vocabulary
    text: Tensor

    @property
    def num_foreground(self) -> int:
        """Number of classes, F."""
        return len(self.vocabulary)


def load_names(classes: Source, background: Source = ()) -> tuple[Vocabulary, Vocabulary]:
    """Read classes and background names, and refuse a name that is both.

    Args:
        classes: See :meth:`Vocabulary.load`.
        background: The same.

    Raises:
        FileNotFoundError: There is no bundled list and no file of this name.
        TypeError: See :meth:`Vocabulary.load`.
        ValueError: There is no class, a name is both class and background, or a name is
            invalid.
    """
    foreground, others = load_classes(classes), Vocabulary.load(background)
    _ = foreground + others  # refuses a name that is in both
    return foreground, others
