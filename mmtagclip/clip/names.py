"""The names of a call: classes, what competes with them, and the text features of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .vocabulary import Vocabulary, load_classes

Source = str | Path | Sequence[str | Sequence[str]] | Vocabulary


@dataclass(frozen=True, eq=False)
class Names:
    """The F classes to find, the names that compete with them, and their text features.

    :meth:`mmtagclip.models.CLIPEncoder.names` makes them. They belong to a call: a model keeps
    its own ones as they are.

    Attributes:
        vocabulary: The F classes.
        background: The names that compete with them in the softmax but are never tags.
        text: ``(C, D)`` float32 text features of unit length, the classes' first.
    """

    vocabulary: Vocabulary
    background: Vocabulary
    text: Tensor

    @property
    def num_foreground(self) -> int:
        """F."""
        return len(self.vocabulary)


def load_names(classes: Source, background: Source = ()) -> tuple[Vocabulary, Vocabulary]:
    """Read classes and background names, and refuse a name that is both.

    Args:
        classes: See :meth:`Vocabulary.load`.
        background: The same.

    Raises:
        FileNotFoundError: No built-in list and no file of this name.
        TypeError: See :meth:`Vocabulary.load`.
        ValueError: There is no class, a name is class and background, or the names are bad.
    """
    foreground, others = load_classes(classes), Vocabulary.load(background)
    _ = foreground + others  # refuses a name that is in both
    return foreground, others
