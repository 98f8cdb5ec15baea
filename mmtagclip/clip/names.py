"""The names of one call: classes, background, and the text features of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .descriptions import Described
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
        text: ``(C, D)`` float32 text features, those of the classes first. They have unit length,
            except the means of descriptions.
        described: The prompts of descriptions of the classes; None if there are none.
        labels: What results call the F classes; their names if not given.
        listed: The names that were given as classes, in their order, with those that are hidden.
    """

    vocabulary: Vocabulary
    background: Vocabulary
    text: Tensor
    described: Described | None = None
    labels: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ('labels', 'listed'):
            object.__setattr__(self, key, getattr(self, key) or self.vocabulary.names)

    @property
    def num_foreground(self) -> int:
        """Number of classes, F."""
        return len(self.vocabulary)

    @property
    def needs_class_token(self) -> bool:
        """Whether :meth:`compared` depends on the image."""
        return self.described is not None and self.described.join == 'reweight'

    def compared(self, class_token: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The text features that images are compared with.

        Args:
            class_token: ``(B, D)`` of unit length, if :attr:`needs_class_token`.

        Returns:
            The features ``(C, D)``, or ``(B, C, D)`` if they depend on the image; and None, or of
            features ``(R, D)`` the name ``(R,)`` that each belongs to, which scores as its best.
        """
        described, count = self.described, self.num_foreground
        if described is None or described.join not in ('max', 'reweight'):
            return self.text, None
        others = self.text[count:]
        if described.join == 'max':
            rest = torch.arange(count, len(self.text), device=others.device)
            return torch.cat([described.features, others]), torch.cat([described.owners, rest])
        assert class_token is not None
        classes = described.reweighted(class_token)
        return torch.cat([classes, others.expand(len(classes), *others.shape)], dim=1), None


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
