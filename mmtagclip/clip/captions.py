"""Names for an image from captions of other images (CaSED, NeurIPS 2023)."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import read_text, split_lines, user_path
from ..images import image_stem, images_below
from .matching import NameFinder, words_of

NEAREST = 10  # captions of an image
ALIKE = 0.94  # cosine of captions that say the same
BLOCK = 65536  # captions that are compared at once
# Words that say what kind of image it is, not what it shows.
KINDS = frozenset(
    (
        *('image', 'photo', 'picture', 'thumbnail', 'logo', 'symbol', 'clipart', 'portrait'),
        *('painting', 'illustration', 'icon', 'profile'),
    )
)


def read_captions(source: str | Path | Sequence[str]) -> list[str]:
    """Read captions, each once.

    Args:
        source: A text file in UTF-8 with one caption per line; a folder of images, whose file
            names are the captions; or the captions.

    Raises:
        FileNotFoundError: There is no such file or folder.
        TypeError: A caption is not a string.
        ValueError: There is no caption, or the file has another encoding.
    """
    if isinstance(source, str | Path):
        path = user_path(source)
        if path.is_dir():
            paths, _ = images_below(path)
            texts = [re.sub('[_-]+', ' ', image_stem(one)) for one in paths]
        else:
            texts = split_lines(read_text(path, 'file of captions'))
    else:
        texts = list(source)
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f'a caption must be a string, not {text!r}')
    captions = list(dict.fromkeys(filter(None, (text.strip() for text in texts))))
    if not captions:
        where = source if isinstance(source, str | Path) else 'the list'
        raise ValueError(f'{where} holds no caption: write one per line')
    return captions


def nearest_captions(
    token: Tensor, captions: Tensor, count: int = NEAREST
) -> tuple[list[int], Tensor]:
    """The captions nearest to an image, without those that say the same as a nearer one.

    Two captions say the same if a chain of the nearest ones links them, each to the next by a
    cosine above 0.94.

    Args:
        token: ``(D,)`` class token of unit length.
        captions: ``(M, D)`` text features of unit length, of any floating type.
        count: How many captions are nearest.

    Returns:
        Indices of those kept, the nearest first, and their features ``(k, D)`` in the token's
        type.
    """
    best, places = token.new_zeros(0), torch.zeros(0, dtype=torch.long, device=token.device)
    for start in range(0, len(captions), BLOCK):
        cosines = captions[start : start + BLOCK].to(token) @ token
        best = torch.cat([best, cosines])
        places = torch.cat([places, torch.arange(len(cosines), device=token.device) + start])
        order = best.sort(descending=True, stable=True).indices[:count]
        best, places = best[order], places[order]
    features = captions[places.to(captions.device)].to(token)
    linked = features @ features.T > ALIKE
    kept: list[int] = []
    left = torch.ones(len(places), dtype=torch.bool, device=token.device)
    for index in range(len(places)):
        if not left[index]:
            continue
        kept.append(index)
        group = torch.zeros_like(left)
        group[index] = True
        while True:
            grown = group | linked[group].any(dim=0)
            if torch.equal(grown, group):
                break
            group = grown
        left &= ~group
    return places[kept].tolist(), features[kept]


def names_in_captions(captions: Sequence[str], finder: NameFinder) -> list[int]:
    """Which names of a list an image's captions speak of.

    CaSED's filters, with membership in a list in the place of its part-of-speech model: web
    addresses, file endings, marks and short words are dropped, and what occurs once, unless
    everything does. Names of several words stay whole.

    Args:
        captions: Of one image.
        finder: Of the list.

    Returns:
        Indices of the names, ascending.
    """
    words = [word for word in _cleaned(' '.join(captions)) if _singular(word) not in KINDS]
    found = finder.find(words)
    taken = {place for one in found for place in range(one.start, one.stop)}
    units: list[int | str] = [one.label for one in found]
    units += [
        _singular(word)
        for place, word in enumerate(words)
        if place not in taken and len(word) > 2 and word.isalpha()
    ]
    counts = Counter(units)
    least = 2 if max(counts.values(), default=0) > 1 else 1
    return sorted(
        unit for unit, number in counts.items() if isinstance(unit, int) and number >= least
    )


def cased_scores(
    token: Tensor, captions: Tensor, names: Tensor, scale: float, share: float = 0.7
) -> Tensor:
    """CaSED's scores of names: by the image, and by the captions that it is like.

    Args:
        token: ``(D,)`` class token of unit length.
        captions: ``(k, D)`` of unit length, of the image.
        names: ``(n, D)`` of unit length.
        scale: Factor of the cosines.
        share: Of the image in the score.

    Returns:
        ``(n,)`` that sum to 1.
    """
    centre = F.normalize(captions.mean(dim=0), dim=0)
    own, theirs = ((scale * names @ one).softmax(dim=0) for one in (token, centre))
    return share * own + (1 - share) * theirs


def _cleaned(text: str) -> tuple[str, ...]:
    """Words of captions, without tags, web addresses and endings of files."""
    text = re.sub('<[^>]*>', '', text)
    text = re.sub(r'http\S+', '', text)
    text = re.sub(r"[^\w\s.&'-]", '', text)
    text = re.sub(r'\.\w+', '', text)
    return words_of(re.sub("['’]", '', text))


def _singular(word: str) -> str:
    """A word that is in no list, without the ending of its plural."""
    if not re.search('s$', word) or re.search('(ss|us|is|ies|oes)$', word):
        return word
    return re.sub('(?<=ss|sh|ch|us)es$|(?<=x)es$|s$', '', word)
