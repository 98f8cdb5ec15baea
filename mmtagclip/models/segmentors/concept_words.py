"""What SAM 3 is asked: which phrases, and with which tokens beside their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import Vocabulary
from ...registry import MODELS
from .sam3 import Phrase, Sam3


@MODELS.register_module()
class Preview(nn.Module):
    """Chooses phrases by a look at the image at a lower resolution (ActiveSAM).

    Args:
        side: Of the image, in pixels.
        share: Share of the phrases that is kept, those of the highest presence, in (0, 1].
        most: Most phrases that are kept. With at most so many phrases, there is no look.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, side: int = 672, share: float = 0.2, most: int = 40) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f'Preview needs share in (0, 1], not {share}')
        for name, number in (('side', side), ('most', most)):
            if number < 1:
                raise ValueError(f'Preview needs {name} to be at least 1, not {number}')
        self.side, self.share, self.most = side, share, most

    def forward(self, presence: Tensor) -> list[int]:
        """Indices of the phrases to ask for, ascending, at least one.

        Args:
            presence: ``(K,)``, probability that each phrase is in the image.
        """
        kept = presence >= presence.quantile(1 - self.share)
        ranked = torch.where(kept, presence, -1.0).topk(min(self.most, int(kept.sum())))
        return sorted(ranked.indices.tolist())


class ContextTokens(nn.Module):
    """Base class of the parts that add tokens to those of a phrase."""

    def forward(self, phrases: Sequence[Phrase], sam3: Sam3) -> list[Tensor]:
        """Further tokens ``(m, D)`` of each phrase, on the CPU; some may have none.

        Args:
            phrases: All phrases of a call.
            sam3: The model that will read them.
        """
        raise NotImplementedError


@MODELS.register_module()
class NeighbourContext(ContextTokens):
    """Adds the most similar of the other phrases, each by its share of their similarity.

    Args:
        count: How many; fewer if there are not so many others.

    Raises:
        ValueError: ``count`` is below 1.
    """

    def __init__(self, count: int = 2) -> None:
        super().__init__()
        self.count = _at_least_one(count, self)

    def forward(self, phrases: Sequence[Phrase], sam3: Sam3) -> list[Tensor]:
        """See :class:`ContextTokens`."""
        embeddings = torch.stack([phrase.embedding for phrase in phrases])
        return list(sam3.project(self.neighbours(embeddings)))

    def neighbours(self, embeddings: Tensor) -> Tensor:
        """Weighted embeddings ``(K, m, D')`` of the neighbours of ``(K, D')``, the nearest first.

        The weights are the softmax of the neighbours' cosines.
        """
        count = min(self.count, len(embeddings) - 1)
        unit = F.normalize(embeddings, dim=-1)
        cosines = (unit @ unit.T).fill_diagonal_(-torch.inf)
        values, indices = cosines.topk(count, dim=1)
        return embeddings[indices] * values.softmax(dim=1)[..., None]


@MODELS.register_module()
class HypernymContext(ContextTokens):
    """Adds more general words of a phrase (dog: canine, domestic animal), from a user's file.

    Args:
        words: A file with one phrase per line, followed by its more general words
            (``dog, canine, domestic animal``), or a dict from phrases to their words. Phrases
            without words get no tokens. ActiveSAM takes the words of WordNet.
        count: Most words of a phrase.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another format, see :class:`mmtagclip.clip.Vocabulary`; or
            ``count`` is below 1.
    """

    def __init__(
        self, words: str | Path | Mapping[str, str | Sequence[str]], count: int = 2
    ) -> None:
        super().__init__()
        read = Vocabulary.load(words)
        self.count = _at_least_one(count, self)
        self.words = {
            name: tuple(word for word in row if word != name)[:count]
            for name, row in zip(read.names, read.phrases, strict=True)
        }

    def forward(self, phrases: Sequence[Phrase], sam3: Sam3) -> list[Tensor]:
        """See :class:`ContextTokens`."""
        return [
            sam3.project(torch.stack([sam3.embedding(word) for word in words]))
            if (words := self.words.get(phrase.text))
            else phrase.tokens.new_zeros(0, phrase.tokens.shape[1])
            for phrase in phrases
        ]


def _at_least_one(count: int, part: ContextTokens) -> int:
    if count < 1:
        raise ValueError(
            f'{type(part).__name__} needs count to be at least 1, not {count}: leave the context '
            'out for no further tokens'
        )
    return count
